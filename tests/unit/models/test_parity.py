"""Every preset of a published family equals transformers' model, with its weights, in float64."""

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from cutaway.models import AnyModel
from tests.unit.tiny import VOCAB, plan, reads, redrawn, tiny


class InFloat64(TorchFunctionMode):
    """Inside, a cast to float32 is one to float64: theirs casts in norms, softmax and angles."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is Tensor.float:
            function = Tensor.double
        args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        kwargs = {k: torch.float64 if v is torch.float32 else v for k, v in (kwargs or {}).items()}
        return function(*args, **kwargs)


QUIET = {"attn_implementation": "eager"}


def give(model: AnyModel, state: dict[str, Tensor]) -> AnyModel:
    """Load weights by our names; none may be missing or left over."""
    model.load_state_dict(state, strict=True)
    return model


def rename(state: dict[str, Tensor], table: dict[str, str], drop: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Names with parts replaced, in the order of the table."""
    out = {}
    for name, value in state.items():
        if name.startswith(drop) if drop else False:
            continue
        for theirs, ours in table.items():
            name = name.replace(theirs, ours)
        out[name] = value
    return out


def gpt2_pair() -> tuple[AnyModel, nn.Module]:
    config = GPT2Config(
        vocab_size=VOCAB,
        n_positions=12,
        n_layer=2,
        n_head=4,
        n_embd=16,
        bos_token_id=0,
        eos_token_id=0,
        **QUIET,
    )
    theirs = redrawn(GPT2LMHeadModel(config))
    table = {"transformer.": "", "h.": "blocks.", "wte": "input.token", "wpe": "input.position"}
    table |= {"ln_1": "mixer_norm", "ln_2": "ffn_norm", "ln_f": "final_norm", "attn.c_proj": "attn.out"}
    table |= {"mlp.c_fc": "ffn.up", "mlp.c_proj": "ffn.down"}
    state = {}
    for name, value in rename(theirs.state_dict(), table, ("lm_head",)).items():
        if value.dim() == 2 and ("attn." in name or "ffn." in name):
            value = value.T
        if "c_attn" in name:
            for part, cut in zip(("query", "key", "value"), value.chunk(3), strict=True):
                state[name.replace("c_attn", part)] = cut
        else:
            state[name] = value
    return give(tiny("gpt2"), state), theirs


class FineRotary(nn.Module):
    """Their table of cosines and sines, in float64: their own is float32 and ends at 1e-7."""

    def __init__(self, width: int, theta: float):
        super().__init__()
        self.speed = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        angle = position_ids[..., None] * self.speed
        angle = torch.cat([angle, angle], dim=-1)
        return angle.cos(), angle.sin()


ROTARY = {"model.layers.": "blocks.", "model.embed_tokens": "input.token", "model.norm": "final_norm"}
ROTARY |= {"self_attn.": "attn.", "q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "out"}
ROTARY |= {"mlp.gate_proj": "ffn.gate", "mlp.up_proj": "ffn.up", "mlp.down_proj": "ffn.down"}
ROTARY |= {"input_layernorm": "mixer_norm", "post_attention_layernorm": "ffn_norm"}
ROTARY |= {"q_norm": "query_norm", "k_norm": "key_norm"}


def llama_pair() -> tuple[AnyModel, nn.Module]:
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=24, rope_theta=500_000.0, rms_norm_eps=1e-5, tie_word_embeddings=True, **QUIET,
    )  # fmt: skip
    theirs = redrawn(LlamaForCausalLM(config))
    theirs.model.rotary_emb = FineRotary(4, 500_000.0)
    return give(tiny("llama3"), rename(theirs.state_dict(), ROTARY, ("lm_head",))), theirs


def qwen3_pair() -> tuple[AnyModel, nn.Module]:
    config = Qwen3Config(
        vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=4, intermediate_size=24, rope_theta=10_000.0, tie_word_embeddings=True, **QUIET,
    )  # fmt: skip
    theirs = redrawn(Qwen3ForCausalLM(config))
    theirs.model.rotary_emb = FineRotary(4, 10_000.0)
    return give(tiny("small"), rename(theirs.state_dict(), ROTARY, ("lm_head",))), theirs


def bert_pair() -> tuple[AnyModel, nn.Module]:
    config = BertConfig(
        vocab_size=VOCAB, max_position_embeddings=12, num_hidden_layers=2, num_attention_heads=4,
        hidden_size=16, intermediate_size=64, **QUIET,
    )  # fmt: skip
    theirs = redrawn(BertForMaskedLM(config))
    table = {
        "bert.encoder.layer.": "blocks.",
        "attention.self.": "attn.",
        "attention.output.dense": "attn.out",
    }
    table |= {"attention.output.LayerNorm": "mixer_norm", "intermediate.dense": "ffn.up"}
    table |= {"output.dense": "ffn.down", "output.LayerNorm": "ffn_norm"}
    table |= {"bert.embeddings.word_embeddings": "input.token", "bert.embeddings.LayerNorm": "input.norm"}
    table |= {"bert.embeddings.position_embeddings": "input.position"}
    table |= {"bert.embeddings.token_type_embeddings": "input.segment"}
    table |= {"cls.predictions.transform.LayerNorm": "head.transform.norm", "cls.predictions.": "head."}
    drop = ("cls.predictions.decoder", "bert.embeddings.position_ids")
    return give(tiny("bert"), rename(theirs.state_dict(), table, drop)), theirs


def t5_pair() -> tuple[AnyModel, nn.Module]:
    config = T5Config(
        vocab_size=VOCAB, d_model=16, d_kv=64, d_ff=24, num_layers=2, num_heads=4, pad_token_id=0,
        decoder_start_token_id=0, tie_word_embeddings=True, **QUIET,
    )  # fmt: skip
    theirs = redrawn(T5ForConditionalGeneration(config))
    attention = {
        ".q.": ".query.",
        ".k.": ".key.",
        ".v.": ".value.",
        ".o.": ".out.",
        "wi.": "up.",
        "wo.": "down.",
    }
    state = {}
    for side, ffn in (("encoder", 1), ("decoder", 2)):
        own = {n: v for n, v in theirs.state_dict().items() if n.startswith(f"{side}.") and "embed" not in n}
        table = {"block.0.layer.0.SelfAttention.relative_attention_bias": "bias", "block.": "blocks."}
        table |= {"layer.0.SelfAttention": "attn", "layer.0.layer_norm": "mixer_norm"}
        table |= {"layer.1.EncDecAttention": "cross", "layer.1.layer_norm": "cross_norm"}
        table |= {f"layer.{ffn}.DenseReluDense": "ffn", f"layer.{ffn}.layer_norm": "ffn_norm"}
        state |= rename(own, table | {"final_layer_norm": "final_norm"} | attention)
    state["source.token.weight"] = theirs.shared.weight
    return give(tiny("t5"), state), theirs


def vit_pair() -> tuple[AnyModel, nn.Module]:
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=8,
        patch_size=4, num_labels=5, **QUIET,
    )  # fmt: skip
    theirs = redrawn(ViTForImageClassification(config))
    state = theirs.state_dict()
    table = {
        "vit.encoder.layer.": "blocks.",
        "attention.attention.": "attn.",
        "attention.output.dense": "attn.out",
    }
    table |= {"vit.layers.": "blocks.", "attention.q_proj": "attn.query", "attention.k_proj": "attn.key"}
    table |= {"attention.v_proj": "attn.value", "attention.o_proj": "attn.out"}
    table |= {"mlp.fc1": "ffn.up", "mlp.fc2": "ffn.down"}
    table |= {"layernorm_before": "mixer_norm", "layernorm_after": "ffn_norm"}
    table |= {"vit.layernorm": "final_norm", "classifier": "head.out"}
    table |= {"vit.embeddings.patch_embeddings.projection": "input.patch"}
    table |= {
        "vit.embeddings.cls_token": "input.first",
        "vit.embeddings.position_embeddings": "input.position",
    }
    ours = rename(state, table)
    ours["input.first"], ours["input.position"] = ours["input.first"].flatten(), ours["input.position"][0]
    return give(tiny("vit"), ours), theirs


PAIRS = {
    "gpt2": gpt2_pair,
    "llama3": llama_pair,
    "small": qwen3_pair,
    "bert": bert_pair,
    "t5": t5_pair,
    "vit": vit_pair,
}


def theirs_says(preset: str, model: nn.Module, inputs: tuple[Tensor, ...], padding=None) -> Tensor:
    with InFloat64():
        return run(preset, model, inputs, padding)


def run(preset: str, model: nn.Module, inputs: tuple[Tensor, ...], padding: Tensor | None) -> Tensor:
    if preset == "t5":
        return model(input_ids=inputs[0], decoder_input_ids=inputs[1], attention_mask=padding).logits
    if preset == "vit":
        return model(pixel_values=inputs[0]).logits
    return model(input_ids=inputs[0], attention_mask=padding).logits


@pytest.mark.parametrize("preset", PAIRS)
@torch.no_grad()
def test_logits_are_theirs(preset):
    ours, theirs = PAIRS[preset]()
    inputs = reads(plan(preset))
    worst = (ours(*inputs) - theirs_says(preset, theirs, inputs)).abs().max()
    assert worst <= 1e-10
    for parameter in list(ours.parameters())[5:6]:
        parameter += 0.1
    assert (ours(*inputs) - theirs_says(preset, theirs, inputs)).abs().max() > 1e-4


@pytest.mark.parametrize("preset", ["gpt2", "llama3", "small", "bert", "t5"])
@torch.no_grad()
def test_logits_are_theirs_beside_padding(preset):
    ours, theirs = PAIRS[preset]()
    inputs = reads(plan(preset))
    padding = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    name = "source_padding_BM" if preset == "t5" else "padding_BL"
    got, want = ours(*inputs, **{name: padding}), theirs_says(preset, theirs, inputs, padding.long())
    if preset != "t5":
        got, want = got[padding], want[padding]
    assert (got - want).abs().max() <= 1e-10
    assert (ours(*inputs)[1, :4] - ours(*inputs, **{name: padding})[1, :4]).abs().max() > 1e-4 or preset in (
        "gpt2",
        "llama3",
        "small",
    )


@torch.no_grad()
def test_segments_are_berts():
    ours, theirs = bert_pair()
    (tokens_BL,) = reads(plan("bert"))
    segments_BL = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1, 0]])
    want = theirs(input_ids=tokens_BL, token_type_ids=segments_BL).logits
    assert (ours(tokens_BL, segments_BL=segments_BL) - want).abs().max() <= 1e-10
    assert (ours(tokens_BL) - want).abs().max() > 1e-3


@pytest.mark.parametrize("preset", ["gpt2", "llama3", "t5"])
def test_gradients_are_theirs(preset):
    ours, theirs = PAIRS[preset]()
    inputs = reads(plan(preset))
    pull = torch.randn(ours(*inputs).shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (ours(*inputs) * pull).sum().backward()
    (theirs_says(preset, theirs, inputs) * pull).sum().backward()
    embedding = ours.source.token if preset == "t5" else ours.input.token
    want = theirs.get_input_embeddings().weight.grad
    torch.testing.assert_close(embedding.weight.grad, want, rtol=0, atol=1e-9)
