"""Adapters and frozen parts of whole models: which are meant, what stays, what is refused."""

from dataclasses import replace

import pytest
import torch

from cutaway import models, spec, study
from cutaway.errors import ConfigError
from cutaway.models.adapt import adapt, adaptable, adapters, merged_weights, still, trained
from tests.unit.tiny import plan, reads, tiny

PROJECTIONS = ("query", "key", "value", "out")
ATTENTION = {f"blocks.{depth}.attn.{name}" for depth in range(2) for name in PROJECTIONS}


def filled(model: torch.nn.Module) -> torch.nn.Module:
    """With an adapter that changes something: a fresh B is zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for layer in adapters(model).values():
            layer.lora_b.copy_(torch.randn(layer.lora_b.shape, generator=generator) * 0.3)
    return model


def test_all_projections_of_attention_are_the_default():
    model = tiny("small")
    adapt(model, spec.LoRA())
    assert adapters(model).keys() == ATTENTION
    assert trained(model).keys() == {f"{name}.lora_{end}" for name in ATTENTION for end in "ab"}
    assert still(model).keys() == dict(tiny("small").named_parameters()).keys()


@pytest.mark.parametrize("preset", ["t5", "vaswani"])
def test_of_a_pair_that_is_both_sides_and_what_looks_across(preset):
    model = tiny(preset)
    adapt(model, spec.LoRA())
    sides = {name.split(".")[0] + "." + name.split(".")[3] for name in adapters(model)}
    assert sides == {"encoder.attn", "decoder.attn", "decoder.cross"} and len(adapters(model)) == 24


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (("blocks.1.attn.query",), {"blocks.1.attn.query"}),
        (("**.ffn.*",), {f"blocks.{i}.ffn.{n}" for i in range(2) for n in ("gate", "up", "down")}),
        (("blocks.0.**", "**.key"), {n for n in adaptable(tiny("small")) if ".0." in n or n.endswith("key")}),
    ],
)
def test_targets_name_matrices(targets, names):
    model = tiny("small")
    adapt(model, spec.LoRA(targets=targets))
    assert adapters(model).keys() == names


@pytest.mark.parametrize("preset", ["small", "gpt2", "bert", "t5", "vit"])
def test_before_the_first_step_nothing_has_changed_and_merging_changes_nothing(preset):
    base, model = tiny(preset), tiny(preset)
    adapt(model, spec.LoRA(rank=3, targets=("**.attn.*", "**.ffn.*")))
    inputs = reads(base.plan)
    with torch.no_grad():
        before = base(*inputs)
        assert torch.equal(model.eval()(*inputs), before)
        changed = filled(model)(*inputs)
        assert (changed - before).abs().max() > 1e-3
        merged = tiny(preset)
        merged.load_state_dict(merged_weights(model))
        assert torch.allclose(merged(*inputs), changed, rtol=0, atol=1e-10)


def test_taps_are_those_of_the_model_and_see_what_the_adapter_does():
    base, model = tiny("small"), filled_model()
    tokens = reads(base.plan)[0]
    old, new = (study.trace(each, tokens.tolist()) for each in (base, model))
    assert list(old) == list(new)
    assert torch.equal(old["blocks.0.in"], new["blocks.0.in"])
    assert not torch.allclose(old["blocks.0.attn.pattern"], new["blocks.0.attn.pattern"], atol=1e-4)
    with study.edit(model, {"blocks.1.attn.mix": study.ablate(heads=[0])}), torch.no_grad():
        assert not torch.equal(model(tokens), new["logits"])


def filled_model() -> torch.nn.Module:
    model = tiny("small")
    adapt(model, spec.LoRA())
    return filled(model).eval()


def test_the_first_values_depend_on_seed_and_name_alone():
    one, two, other = (models.build(plan("small")) for _ in range(3))
    adapt(one, spec.LoRA(), seed=3)
    adapt(two, spec.LoRA(targets=("blocks.1.attn.key",)), seed=3)
    adapt(other, spec.LoRA(), seed=4)
    name = "blocks.1.attn.key"
    a, same, differs = (adapters(model)[name].lora_a for model in (one, two, other))
    assert torch.equal(a, same) and not torch.equal(a, differs) and not adapters(one)[name].lora_b.any()
    assert not torch.equal(a, adapters(one)["blocks.0.attn.key"].lora_a)
    assert 0.7 * 16**-0.5 < a.std() < 1.4 * 16**-0.5


def test_blocks_that_run_at_several_depths_have_one_adapter():
    shared = plan("small")
    model = models.build(replace(shared, stack=replace(shared.stack, layers=4, distinct=1)))
    adapt(model, spec.LoRA())
    assert adapters(model).keys() == {f"blocks.0.attn.{name}" for name in PROJECTIONS}


def test_what_is_named_whole_is_trained_as_it_is():
    model = tiny("bert")
    adapt(model, spec.LoRA(whole=("head.**",)))
    assert {name for name in trained(model) if "lora" not in name} == {
        name for name in dict(tiny("bert").named_parameters()) if name.startswith("head.")
    }


def test_frozen_parts_stand_still():
    model = tiny("gpt2")
    adapt(model, None, ("input.**", "blocks.0.**"))
    assert still(model) and all(name.startswith(("input.", "blocks.0.")) for name in still(model))
    assert not adapters(model) and "blocks.1.attn.query.weight" in trained(model)


@pytest.mark.parametrize(
    ("adapter", "frozen", "said"),
    [
        (
            spec.LoRA(targets=("blocks.*.attn.qeury",)),
            (),
            r"adapter\.targets: 'blocks\.\*\.attn\.qeury' names",
        ),
        (spec.LoRA(targets=("**.attn.*", "head.out")), (), r"adapter\.targets: 'head\.out' names nothing"),
        (spec.LoRA(targets=("input.token",)), (), r"adapter\.targets: 'input\.token' names nothing"),
        (spec.LoRA(whole=("haed.**",)), (), r"adapter\.whole: 'haed\.\*\*' names nothing"),
        (
            spec.LoRA(whole=("**.query.weight",)),
            (),
            r"blocks\.0\.attn\.query\.weight is a target and trained",
        ),
        (None, ("blocks.2.**",), r"frozen: 'blocks\.2\.\*\*' names nothing in this model"),
        (None, ("**",), r"nothing of the model is left to train"),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(adapter, frozen, said):
    with pytest.raises(ConfigError, match=said) as refused:
        adapt(tiny("small"), adapter, frozen)
    assert "\n" not in str(refused.value)


def test_a_model_without_attention_has_nothing_to_adapt():
    with pytest.raises(ConfigError, match="no attention"):
        adapt(tiny("lstm"), spec.LoRA())
