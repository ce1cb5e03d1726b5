"""A T5 and a Marian that were loaded translate as transformers' `generate` does, by beams and greedily."""

import pytest
import tokenizers
import torch
import transformers as hf
from tokenizers import models, pre_tokenizers, processors

from cutaway.session import Session, load
from tests.parity.checkpoints import redraw

WORDS = ("<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(21)))
SENTENCES = ["w1 w2 w3", "w20 w4 w4 w7 w9 w11", "w5", "w8 w0 w13 w13 w2"]
SIZES = {"pad_token_id": 0, "eos_token_id": 1, "vocab_size": len(WORDS), "d_model": 16}
CONFIGS = {
    "t5": hf.T5Config(**SIZES, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0),
    "marian": hf.MarianConfig(
        **SIZES, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=24, decoder_ffn_dim=24, decoder_start_token_id=0, max_position_embeddings=64,
        forced_eos_token_id=None,
    ),
}  # fmt: skip


def write_words(folder):
    """A tokenizer of whole words that ends a text, and transformers' class around it."""
    inner = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    inner.add_special_tokens(["<pad>", "</s>", "<unk>"])
    around = hf.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    around.save_pretrained(folder)
    return around


@pytest.fixture(scope="module", params=CONFIGS)
def both(request, tmp_path_factory) -> tuple[Session, hf.PreTrainedModel, hf.PreTrainedTokenizerFast]:
    folder = tmp_path_factory.mktemp(request.param)
    config = CONFIGS[request.param]
    model = {"t5": hf.T5ForConditionalGeneration, "marian": hf.MarianMTModel}[request.param](config)
    redraw(model)
    theirs = model.float().eval()
    theirs.save_pretrained(folder)
    around = write_words(folder)
    return load(folder), theirs, around


@pytest.mark.parametrize("beam", [1, 4])
def test_the_same_words(both, beam):
    ours, theirs, around = both
    found = ours.translations(SENTENCES, beam=beam, max_tokens=12)
    for sentence, each in zip(SENTENCES, found, strict=True):
        source = around(sentence, return_tensors="pt")
        assert each.source == tuple(source.input_ids[0].tolist()), "the end token stands behind a source"
        with torch.no_grad():
            written = theirs.generate(
                **source, num_beams=beam, max_new_tokens=12, early_stopping=True, do_sample=False,
                bad_words_ids=[[0], [2]],
            )  # fmt: skip
        expected = [token for token in written[0, 1:].tolist() if token != 0]
        assert list(each.tokens) == expected
        assert each.text == around.decode(expected, skip_special_tokens=True)
    assert len({round(each.score, 4) for each in found}) == len(SENTENCES), "the source must matter"
