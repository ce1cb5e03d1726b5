"""Hugging Face MarianMTModel and CTranslate2 with one set of random weights, beam search in fp32."""

import tempfile
from collections.abc import Callable

import torch
from safetensors.torch import load_file, save_file
from transformers import MarianConfig, MarianMTModel

from benchmarks.sentences import BEAM, END, UNKNOWN, Translator, batches

# Random weights alone repeat one word for ever. So the last layer looks at the source word at the place that
# is written, and everything else disturbs it: a copier that hesitates, and ends where its source does.
NOISE, EMBEDDING_STD, SHARPNESS, COPY_GAIN, LAST_GAIN = 0.5, 0.06, 2.0, 4.0, 1.3
HEAD_PLACES = 16  # frequencies of the sinusoids a head compares


def build(shape: Translator) -> MarianMTModel:
    config = MarianConfig(
        vocab_size=shape.vocab,
        d_model=shape.width,
        encoder_layers=shape.layers,
        decoder_layers=shape.layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=shape.hidden,
        decoder_ffn_dim=shape.hidden,
        activation_function="relu",
        scale_embedding=True,
        max_position_embeddings=512,
        pad_token_id=shape.pad,
        eos_token_id=END,
        decoder_start_token_id=shape.pad,
        forced_eos_token_id=None,
        dropout=0.0,
        attn_implementation="sdpa",
    )
    return MarianMTModel(config).eval()


def initial_weights(shape: dict, path: str) -> Callable[[], int]:
    """Writes the weights every side loads."""
    sizes = Translator(**shape)

    def write() -> int:
        torch.manual_seed(0)
        model = build(sizes)
        draw(model, sizes)
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        tied = ("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
        save_file({name: value for name, value in state.items() if name not in tied}, path)
        return len(state)

    return write


@torch.no_grad()
def draw(model: MarianMTModel, shape: Translator) -> None:
    """Noise, and the look of a copier. Sines and cosines of the slow half of the places hold the words."""
    half, quarter = shape.width // 2, shape.width // 4
    words = [*range(quarter, half), *range(half + quarter, shape.width)]
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and "embed_positions" not in name:
            parameter.normal_(0.0, NOISE * parameter.size(1) ** -0.5)
    embedding = model.model.shared.weight
    embedding.zero_()[:, words] = torch.randn(shape.vocab, half) * EMBEDDING_STD
    embedding[shape.pad] = 0.0  # Marian begins with the zero vector
    layer = model.model.decoder.layers[-1]
    look, width = layer.encoder_attn, shape.width // shape.heads
    fast = [place + side for side in (0, half) for place in range(min(HEAD_PLACES, width // 2))]
    for head in range(shape.heads):
        rows = range(head * width, head * width + len(fast))
        look.q_proj.weight[rows, fast] += SHARPNESS
        look.k_proj.weight[rows, fast] += SHARPNESS
        own = words[head * half // shape.heads : (head + 1) * half // shape.heads]
        rows = range(head * width, head * width + len(own))
        look.v_proj.weight[rows, own] += 1.0
        look.out_proj.weight[own, rows] += COPY_GAIN
    layer.final_layer_norm.weight.fill_(LAST_GAIN)


def loaded(shape: Translator, weights: str) -> MarianMTModel:
    model = build(shape)
    missing = model.load_state_dict(load_file(weights), strict=False).missing_keys
    assert all("embed_tokens" in name or name == "lm_head.weight" for name in missing), missing
    return model


def translating(shape: dict, weights: str) -> Callable[[], list[list[int]]]:
    """Its `generate` with the rule of fairseq for the end; returns what was written, without the end."""
    sizes = Translator(**shape)
    model = loaded(sizes, weights)
    asked = dict(
        num_beams=BEAM,
        do_sample=False,
        early_stopping=True,
        length_penalty=1.0,
        max_new_tokens=sizes.max_tokens,
        bad_words_ids=[[sizes.pad], [UNKNOWN]],
    )

    def translate() -> list[list[int]]:
        written = []
        with torch.inference_mode():
            for rows in batches(sizes):
                longest = max(map(len, rows))
                source = torch.tensor([row + [sizes.pad] * (longest - len(row)) for row in rows])
                found = model.generate(source, attention_mask=(source != sizes.pad).long(), **asked)
                written += [row[: row.index(END)] if END in row else row for row in found[:, 1:].tolist()]
        return written

    return translate


def converted(shape: dict, weights: str, threads: int) -> Callable[[], list[list[int]]]:
    """The same by CTranslate2 in float32, converted by its own loader."""
    import ctranslate2
    from ctranslate2.converters import transformers as converters

    sizes = Translator(**shape)
    loader = converters.MarianMTLoader()
    spec = loader.get_model_spec(loaded(sizes, weights))
    names = ["</s>", "<unk>", *(str(number) for number in range(2, sizes.vocab - 1))]
    loader.set_vocabulary(spec, names)
    spec.config.eos_token = spec.config.decoder_start_token = names[END]
    spec.config.unk_token = names[UNKNOWN]
    spec.validate()
    spec.optimize(quantization="float32")
    with tempfile.TemporaryDirectory() as folder:
        spec.save(folder)
        translator = ctranslate2.Translator(
            folder, compute_type="float32", inter_threads=1, intra_threads=threads
        )
    asked = dict(beam_size=BEAM, length_penalty=1.0, max_decoding_length=sizes.max_tokens, disable_unk=True)

    def translate() -> list[list[int]]:
        written = []
        for rows in batches(sizes):
            found = translator.translate_batch([[names[token] for token in row] for row in rows], **asked)
            written += [[int(name) for name in each.hypotheses[0]] for each in found]
        return written

    return translate
