"""Families of docs/families.md without a preset: the records say what transformers computes."""

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    MarianConfig,
    MarianMTModel,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from cutaway import models, spec
from cutaway.nn import part
from tests.unit.models.test_parity import QUIET, ROTARY, FineRotary, InFloat64, rename
from tests.unit.tiny import VOCAB, redrawn

SIZES = {"vocab_size": VOCAB, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
State = dict[str, Tensor]


def decoder(*blocks: spec.Block, tied: bool = True, layers: int = 2, **parts: object) -> spec.Single:
    stack = spec.Stack(layers, blocks, "past", final_norm=blocks[0].norm)
    tokens = spec.Tokens(VOCAB, scale=parts.pop("scale", 1.0))
    return spec.Single(16, tokens, stack, spec.NextToken(tied, **parts))


def neox() -> tuple[spec.Model, nn.Module, State]:
    config = GPTNeoXConfig(
        **SIZES | {"num_attention_heads": 2}, intermediate_size=24, hidden_act="gelu", rotary_pct=0.25,
        tie_word_embeddings=False, layer_norm_eps=1e-5, **QUIET,
    )  # fmt: skip
    theirs = redrawn(GPTNeoXForCausalLM(config))
    theirs.gpt_neox.rotary_emb = FineRotary(2, 10_000.0)
    table = {"gpt_neox.layers.": "blocks.", "gpt_neox.embed_in": "input.token", "lm_head": "head.out"}
    table |= {"gpt_neox.final_layer_norm": "final_norm", "attention.dense.": "attn.out."}
    table |= {"input_layernorm": "mixer_norm", "post_attention_layernorm": "ffn_norm"}
    table |= {"mlp.dense_h_to_4h": "ffn.up", "mlp.dense_4h_to_h": "ffn.down"}
    state = {}
    for name, value in rename(theirs.state_dict(), table).items():
        if "query_key_value" in name:  # of every head its query, key and value in turn
            for place, part in enumerate(("query", "key", "value")):
                cut = value.unflatten(0, (2, 3, 8))[:, place].flatten(0, 1)
                state[name.replace("attention.query_key_value", f"attn.{part}")] = cut
        else:
            state[name] = value
    attend = spec.Attention(2, rotary=spec.Rotary(fraction=0.25), bias="qkvo")
    return decoder(spec.Block(attend, spec.MLP(24), spec.LayerNorm(), "parallel"), tied=False), theirs, state


def mistral() -> tuple[spec.Model, nn.Module, State]:
    config = MistralConfig(
        **SIZES, num_key_value_heads=2, intermediate_size=24, sliding_window=3, rope_theta=10_000.0,
        rms_norm_eps=1e-5, tie_word_embeddings=False, **QUIET,
    )  # fmt: skip
    theirs = redrawn(MistralForCausalLM(config))
    theirs.model.rotary_emb = FineRotary(4, 10_000.0)
    block = spec.Block(
        spec.Attention(4, 2, rotary=spec.Rotary(), window=3), spec.GatedMLP(24), spec.RMSNorm(eps=1e-5)
    )
    return decoder(block, tied=False), theirs, rename(theirs.state_dict(), ROTARY | {"lm_head": "head.out"})


def qwen2() -> tuple[spec.Model, nn.Module, State]:
    config = Qwen2Config(
        **SIZES,
        num_key_value_heads=2,
        intermediate_size=24,
        rope_theta=1e6,
        tie_word_embeddings=True,
        **QUIET,
    )
    theirs = redrawn(Qwen2ForCausalLM(config))
    theirs.model.rotary_emb = FineRotary(4, 1e6)
    block = spec.Block(
        spec.Attention(4, 2, rotary=spec.Rotary(1e6), bias="qkv"), spec.GatedMLP(24), spec.RMSNorm()
    )
    return decoder(block), theirs, rename(theirs.state_dict(), ROTARY, ("lm_head",))


def gemma2() -> tuple[spec.Model, nn.Module, State]:
    config = Gemma2Config(
        **SIZES, num_key_value_heads=2, intermediate_size=24, head_dim=6, query_pre_attn_scalar=5,
        sliding_window=3, attn_logit_softcapping=2.0, final_logit_softcapping=3.0, pad_token_id=0, **QUIET,
    )  # fmt: skip
    theirs = redrawn(Gemma2ForCausalLM(config))
    theirs.model.rotary_emb = FineRotary(6, 10_000.0)
    table = ROTARY | {"input_layernorm": "mixer_norm", "post_attention_layernorm": "mixer_norm_after"}
    table |= {"pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "ffn_norm_after"}
    norm = spec.RMSNorm(offset=1.0)
    local, whole = (
        spec.Block(
            spec.Attention(4, 2, 6, spec.Rotary(), scale=5**-0.5, cap=2.0, window=window),
            spec.GatedMLP(24, "gelu_tanh"),
            norm,
            "sandwich",
        )
        for window in (3, None)
    )
    return (
        decoder(local, whole, scale=16**0.5, cap=3.0),
        theirs,
        rename(theirs.state_dict(), table, ("lm_head",)),
    )


def roberta() -> tuple[spec.Model, nn.Module, State]:
    config = RobertaConfig(
        **SIZES, intermediate_size=24, max_position_embeddings=14, type_vocab_size=1, pad_token_id=1,
        layer_norm_eps=1e-5, **QUIET,
    )  # fmt: skip
    theirs = redrawn(RobertaForMaskedLM(config))
    table = {"roberta.encoder.layer.": "blocks.", "attention.self.": "attn."}
    table |= {"attention.output.dense": "attn.out", "attention.output.LayerNorm": "mixer_norm"}
    table |= {"intermediate.dense": "ffn.up", "output.dense": "ffn.down", "output.LayerNorm": "ffn_norm"}
    table |= {
        "roberta.embeddings.word_embeddings": "input.token",
        "roberta.embeddings.LayerNorm": "input.norm",
    }
    table |= {"roberta.embeddings.position_embeddings": "input.position"}
    table |= {"roberta.embeddings.token_type_embeddings": "input.segment"}
    table |= {"lm_head.layer_norm": "head.transform.norm", "lm_head.dense": "head.transform.dense"}
    state = rename(theirs.state_dict(), table | {"lm_head.": "head."}, ("lm_head.decoder",))
    norm = spec.LayerNorm()
    block = spec.Block(spec.Attention(4, bias="qkvo"), spec.MLP(24), norm, "post")
    tokens = spec.Tokens(VOCAB, spec.Learned(12, offset=2), segments=1, norm=norm)
    head = spec.NextToken(bias=True, transform=spec.Transform("gelu", norm))
    return spec.Single(16, tokens, spec.Stack(2, (block,), "all"), head), theirs, state


def albert() -> tuple[spec.Model, nn.Module, State]:
    config = AlbertConfig(
        **SIZES | {"num_hidden_layers": 3}, embedding_size=6, intermediate_size=24,
        max_position_embeddings=12, **QUIET,
    )  # fmt: skip
    theirs = redrawn(AlbertForMaskedLM(config))
    table = {"albert.encoder.embedding_hidden_mapping_in": "input.widen", "attention.dense.": "attn.out."}
    table |= {"albert.encoder.albert_layer_groups.0.albert_layers.": "blocks.", "ffn.": "ffn.up."}
    table |= {"full_layer_layer_norm": "ffn_norm", "attention.LayerNorm": "mixer_norm", "attention.": "attn."}
    table |= {"ffn_output": "ffn.down", "albert.embeddings.word_embeddings": "input.token"}
    table |= {"albert.embeddings.position_embeddings": "input.position"}
    table |= {"albert.embeddings.token_type_embeddings": "input.segment"}
    table |= {"albert.embeddings.LayerNorm": "input.norm", "predictions.LayerNorm": "head.transform.norm"}
    table |= {"predictions.dense": "head.transform.dense", "predictions.": "head."}
    state = rename(theirs.state_dict(), table, ("predictions.decoder", "albert.pooler"))
    norm = spec.LayerNorm(eps=1e-12)
    block = spec.Block(spec.Attention(4, bias="qkvo"), spec.MLP(24, "gelu_tanh"), norm, "post")
    tokens = spec.Tokens(VOCAB, spec.Learned(12), segments=2, norm=norm, factor=6)
    head = spec.NextToken(bias=True, transform=spec.Transform("gelu_tanh", norm, width=6))
    return spec.Single(16, tokens, spec.Stack(3, (block,), "all", distinct=1), head), theirs, state


def marian() -> tuple[spec.Model, nn.Module, State]:
    config = MarianConfig(
        vocab_size=VOCAB, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=24, decoder_ffn_dim=24, activation_function="silu",
        scale_embedding=True, max_position_embeddings=12, pad_token_id=0, decoder_start_token_id=0, **QUIET,
    )  # fmt: skip
    theirs = redrawn(MarianMTModel(config))
    for side in (
        theirs.model.encoder,
        theirs.model.decoder,
    ):  # they are fixed, and were redrawn with the rest
        table = spec.Sinusoidal(layout="halves")
        side.embed_positions.weight.data = part(table, 16)(torch.arange(12)[None], 11)[0]
    table = {"model.encoder.layers.": "encoder.blocks.", "model.decoder.layers.": "decoder.blocks."}
    table |= {"self_attn_layer_norm": "mixer_norm", "encoder_attn_layer_norm": "cross_norm"}
    table |= {"self_attn.": "attn.", "encoder_attn.": "cross.", "final_layer_norm": "ffn_norm"}
    table |= {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
    table |= {
        "fc1": "ffn.up",
        "fc2": "ffn.down",
        "model.shared": "source.token",
        "final_logits_bias": "head.bias",
    }
    drop = ("lm_head", "model.encoder.embed", "model.decoder.embed")
    state = rename(theirs.state_dict(), table, drop)
    state["head.bias"] = torch.randn(VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    theirs.final_logits_bias = state["head.bias"][None]
    attend, norm, ffn = spec.Attention(4, bias="qkvo"), spec.LayerNorm(), spec.MLP(24, "silu")
    reader = spec.Stack(2, (spec.Block(attend, ffn, norm, "post"),), "all")
    writer = spec.Stack(2, (spec.Block(attend, ffn, norm, "post", cross=attend),), "past")
    tokens = spec.Tokens(VOCAB, spec.Sinusoidal(layout="halves"), scale=4.0)
    return spec.Paired(16, tokens, reader, writer, spec.NextToken(bias=True)), theirs, state


@pytest.mark.parametrize("family", [neox, mistral, qwen2, gemma2, roberta, albert, marian])
@torch.no_grad()
def test_logits_are_theirs(family):
    plan, theirs, state = family()
    ours = models.build(plan).double().eval()
    ours.load_state_dict(state, strict=True)
    generator = torch.Generator().manual_seed(1)
    source, target = (torch.randint(2, VOCAB, (2, size), generator=generator) for size in (7, 5))
    pair = isinstance(plan, spec.Paired)
    got = ours(source, target) if pair else ours(source)
    with InFloat64():
        more = {"decoder_input_ids": target} if pair else {}
        want = theirs(input_ids=source, use_cache=False, **more).logits if pair else theirs(source).logits
    assert (got - want).abs().max() <= 1e-10
    ours.get_parameter(next(n for n in state if n.endswith("ffn.down.weight")))[0] += 0.1
    assert ((ours(source, target) if pair else ours(source)) - want).abs().max() > 1e-6
