"""Names: wildcards by part, TransformerLens' list written out, near names for what does not exist."""

import dataclasses

import pytest

from cutaway import models, spec
from cutaway.errors import TapError
from cutaway.study import aliases, find
from tests.unit.tiny import plan

ONE = {
    "hook_embed": "input.token",
    "hook_pos_embed": "input.position",
    "blocks.1.hook_resid_pre": "blocks.1.in",
    "blocks.1.ln1.hook_scale": "blocks.1.mixer_norm.scale",
    "blocks.1.ln1.hook_normalized": "blocks.1.mixer_norm.normalized",
    "blocks.1.attn.hook_q": "blocks.1.attn.q",
    "blocks.1.attn.hook_k": "blocks.1.attn.k",
    "blocks.1.attn.hook_v": "blocks.1.attn.v",
    "blocks.1.attn.hook_attn_scores": "blocks.1.attn.scores",
    "blocks.1.attn.hook_pattern": "blocks.1.attn.pattern",
    "blocks.1.attn.hook_z": "blocks.1.attn.mix",
    "blocks.1.hook_attn_out": "blocks.1.attn.out",
    "blocks.1.hook_resid_mid": "blocks.1.mid",
    "blocks.1.ln2.hook_scale": "blocks.1.ffn_norm.scale",
    "blocks.1.ln2.hook_normalized": "blocks.1.ffn_norm.normalized",
    "blocks.1.mlp.hook_pre": "blocks.1.ffn.up",
    "blocks.1.mlp.hook_post": "blocks.1.ffn.hidden",
    "blocks.1.hook_mlp_out": "blocks.1.ffn.out",
    "blocks.1.hook_resid_post": "blocks.1.out",
    "ln_final.hook_scale": "final_norm.scale",
    "ln_final.hook_normalized": "final_norm.normalized",
    "unembed.hook_in": "final_norm.out",
    "unembed.hook_out": "logits",
}
GATED = {
    "blocks.1.mlp.hook_pre": "blocks.1.ffn.gate",
    "blocks.1.mlp.hook_pre_linear": "blocks.1.ffn.up",
    "blocks.1.mlp.hook_post": "blocks.1.ffn.hidden",
    "blocks.1.attn.hook_rot_q": "blocks.1.attn.q_rotated",
    "blocks.1.attn.hook_rot_k": "blocks.1.attn.k_rotated",
}
BERT = {
    "embed.hook_embed": "input.token",
    "embed.hook_pos_embed": "input.position",
    "embed.hook_token_type_embed": "input.segment",
    "embed.ln.hook_scale": "input.norm.scale",
    "hook_full_embed": "input.out",
    "blocks.1.hook_resid_pre": "blocks.1.in",
    "blocks.1.hook_attn_out": "blocks.1.attn.out",
    "blocks.1.ln1.hook_scale": "blocks.1.mixer_norm.scale",
    "blocks.1.hook_normalized_resid_post": "blocks.1.out",
}
T5 = {
    "hook_embed": "encoder.input.token",
    "encoder.1.hook_resid_pre": "encoder.blocks.1.in",
    "encoder.1.ln2.hook_scale": "encoder.blocks.1.ffn_norm.scale",
    "encoder.0.attn.rel_pos_hook": "encoder.bias",
    "encoder_final_ln.hook_scale": "encoder.final_norm.scale",
    "decoder.1.ln2.hook_scale": "decoder.blocks.1.cross_norm.scale",
    "decoder.1.ln3.hook_scale": "decoder.blocks.1.ffn_norm.scale",
    "decoder.1.cross_attn.hook_pattern": "decoder.blocks.1.cross.pattern",
    "decoder.1.hook_cross_attn_out": "decoder.blocks.1.cross.out",
    "decoder.1.hook_resid_mid_cross": "decoder.blocks.1.crossed",
    "decoder.1.hook_resid_post": "decoder.blocks.1.out",
    "decoder_final_ln.hook_normalized": "decoder.final_norm.normalized",
    "unembed.hook_out": "logits",
}


@pytest.mark.parametrize(
    ("preset", "table"), [("gpt2", ONE), ("llama3", GATED), ("small", GATED), ("bert", BERT), ("t5", T5)]
)
def test_transformer_lens_names_are_aliases(preset, table):
    of = plan(preset)
    for alias, name in table.items():
        assert find(alias, of) == [name], alias
    assert set(aliases(of).values()) <= set(models.sites(of))


def test_gpt2_has_every_site_that_transformer_lens_keeps_by_default():
    """23 kinds: 17 in each of the layers, 6 around them; none is missing and none is made up."""
    of = plan("gpt2")
    blocks = [alias.replace("blocks.1", f"blocks.{d}") for alias in ONE for d in (0, 1) if "blocks" in alias]
    around = [alias for alias in ONE if "blocks" not in alias]
    extra = {"embed.hook_embed", "embed.hook_pos_embed", "hook_full_embed"}
    assert set(aliases(of)) == {*blocks, *around} | extra
    assert len(blocks) == 2 * 17


def test_what_transformer_lens_adds_to_the_residual_is_behind_the_norm_of_a_sandwich():
    of = plan("gpt2")
    block = dataclasses.replace(of.stack.blocks[0], order="sandwich")
    of = dataclasses.replace(of, stack=dataclasses.replace(of.stack, blocks=(block,)))
    assert find("blocks.0.hook_attn_out", of) == ["blocks.0.mixer_norm_after.out"]
    assert find("blocks.0.hook_mlp_out", of) == ["blocks.0.ffn_norm_after.out"]
    assert find("blocks.0.ln1_post.hook_scale", of) == ["blocks.0.mixer_norm_after.scale"]


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("bert", "blocks.0.hook_resid_mid"),  # there it is the sum in front of the norm
        ("bert", "blocks.0.hook_resid_post"),
        ("gpt2", "blocks.0.attn.hook_result"),
        ("gpt2", "blocks.0.hook_mlp_in"),
    ],
)
def test_an_alias_of_another_value_does_not_exist(preset, name):
    with pytest.raises(TapError, match=f"no tap is called '{name}'"):
        find(name, plan(preset))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("blocks.*.out", ["blocks.0.out", "blocks.1.out"]),
        ("blocks.[1-9].mid", ["blocks.1.mid"]),
        ("blocks.?.attn.q", ["blocks.0.attn.q", "blocks.1.attn.q"]),
        ("blocks.0.attn.[qk]", ["blocks.0.attn.q", "blocks.0.attn.k"]),
        ("**.pattern", ["blocks.0.attn.pattern", "blocks.1.attn.pattern"]),
        ("**.logits", ["logits"]),
        ("*", ["logits"]),
        ("blocks.1.ffn.*", ["blocks.1.ffn.up", "blocks.1.ffn.hidden", "blocks.1.ffn.out"]),
        ("blocks.*.attn.hook_pattern", ["blocks.0.attn.pattern", "blocks.1.attn.pattern"]),
        ("*.*.hook_resid_p*", ["blocks.0.in", "blocks.0.out", "blocks.1.in", "blocks.1.out"]),
    ],
)
def test_wildcards(pattern, names):
    assert find(pattern, plan("gpt2")) == names


def test_two_stars_are_everything():
    of = plan("t5")
    assert find("**", of) == list(models.sites(of))
    assert find("decoder.**", of) == [name for name in models.sites(of) if name.startswith("decoder.")]


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("blocks.1.attn.patern", "blocks.1.attn.pattern"),
        ("block.0.out", "blocks.0.out"),
        ("blocks.0.attn.hook_patern", "blocks.0.attn.hook_pattern"),
        ("blocks.*.atn.q", "attn.q"),
        ("blocks.2.out", "blocks.1.out"),
    ],
)
def test_a_name_that_no_tap_has_is_refused_with_near_ones(wrong, near):
    with pytest.raises(TapError) as refused:
        find(wrong, plan("gpt2"))
    assert near in str(refused.value) and "\n" not in str(refused.value)
    assert refused.value.exit_code == 64


def test_a_classifier_without_vocabulary_has_no_unembedding():
    assert "unembed.hook_out" not in aliases(plan("vit"))
    assert isinstance(plan("vit").head, spec.Classify)
