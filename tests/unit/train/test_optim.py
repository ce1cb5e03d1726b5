"""Which parameters each optimiser steps, and that its state comes back to the last bit."""

import pytest
import torch

from cutaway import spec
from cutaway.errors import ConfigError, FileFormatError
from cutaway.models import build
from cutaway.spec.presets import quick, small, vaswani
from cutaway.train.optim import Optimizers

MUON = spec.Muon(rate=0.02)


def plan(**sizes):
    return quick(layers=2, width=16, heads=2, vocab=11, **sizes)


def stepped(optimizers, model, steps, seed=0, factor=1.0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizers.step(factor)


@pytest.mark.parametrize(
    "tree",
    [
        plan(),
        small(layers=1, width=16, heads=2, kv_heads=1, vocab=11),
        vaswani(layers=1, width=16, heads=2, hidden=32, vocab=11),
    ],
    ids=["quick", "small", "vaswani"],
)
def test_muon_has_the_matrices_inside_the_blocks_and_adamw_all_the_rest(tree):
    model = build(tree)
    optimizers = Optimizers(model, MUON)
    owned = [
        {optimizers.names[p] for group in part.param_groups for p in group["params"]}
        for part in optimizers.parts
    ]
    names = {name: p for name, p in model.named_parameters()}
    inside = {name for name, p in names.items() if p.dim() == 2 and ".blocks." in f".{name}"}
    assert owned == [inside, set(names) - inside]
    assert inside and any("token" in name for name in owned[1])
    assert any("norm" in name for name in owned[1]), "a norm's gain is no matrix"


def test_only_matrices_decay():
    model = build(plan())
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizers = Optimizers(model, spec.AdamW(rate=0.1, decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step(1.0)
    for name, parameter in model.named_parameters():
        expected = before[name] * (1 - 0.1 * 0.5) if parameter.dim() > 1 else before[name]
        torch.testing.assert_close(parameter.detach(), expected, msg=name)


def test_the_factor_scales_every_rate_and_is_not_remembered():
    models = [build(plan()) for _ in range(2)]
    for model, factors in zip(models, ([0.5, 1.0], [0.5, 1.0]), strict=True):
        optimizers = Optimizers(model, MUON)
        for factor in factors:
            stepped(optimizers, model, 1, factor=factor)
    still = build(plan())
    stepped(Optimizers(still, MUON), still, 1, factor=0.0)
    for one, other, first in zip(*(m.parameters() for m in (*models, still)), strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one, first)
    for parameter, first in zip(still.parameters(), build(plan()).parameters(), strict=True):
        assert torch.equal(parameter, first)


@pytest.mark.parametrize("optimizer", [spec.AdamW(), MUON], ids=["adamw", "muon"])
@pytest.mark.parametrize("loses", [False, True], ids=["kept", "control"])
def test_state_goes_out_and_comes_back_to_the_last_bit(optimizer, loses):
    model = build(plan())
    optimizers = Optimizers(model, optimizer)
    stepped(optimizers, model, 3)
    state = {name: value.clone() for name, value in optimizers.state_dict().items()}
    twin = build(plan())
    twin.load_state_dict(model.state_dict())
    others = Optimizers(twin, optimizer)
    if not loses:
        others.load_state_dict(state)
        assert others.state_dict().keys() == state.keys()
        assert all(torch.equal(others.state_dict()[name], value) for name, value in state.items())
    stepped(optimizers, model, 2, seed=9)
    stepped(others, twin, 2, seed=9)
    same = all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert same != loses


@pytest.mark.parametrize(
    ("key", "value"),
    [("nobody.weight/exp_avg", torch.zeros(3)), ("input.token.weight/exp_avg", torch.zeros(3, 3))],
    ids=["name", "shape"],
)
def test_state_of_another_model_is_refused(key, value):
    optimizers = Optimizers(build(plan()), spec.AdamW())
    with pytest.raises(FileFormatError, match=r"training\.safetensors: optimiser state .* fits no parameter"):
        optimizers.load_state_dict({key: value}, "training.safetensors")


@pytest.mark.parametrize(
    ("kept", "asked"), [(MUON, spec.AdamW()), (spec.AdamW(), MUON)], ids=["muon", "adamw"]
)
def test_state_of_another_optimizer_is_refused_and_nothing_taken_over(kept, asked):
    model = build(plan())
    optimizers = Optimizers(model, kept)
    stepped(optimizers, model, 1)
    others = Optimizers(build(plan()), asked)
    with pytest.raises(FileFormatError, match=r"holds .* of blocks\.0.*, where (AdamW|Muon) keeps"):
        others.load_state_dict(optimizers.state_dict())
    assert others.state_dict() == {}


def test_state_that_lost_a_field_is_refused():
    model = build(plan())
    optimizers = Optimizers(model, spec.AdamW())
    stepped(optimizers, model, 1)
    state = optimizers.state_dict()
    del state["input.token.weight/exp_avg"]
    with pytest.raises(FileFormatError, match=r"holds exp_avg_sq, step of input\.token\.weight, where AdamW"):
        optimizers.load_state_dict(state)


def test_a_parameter_no_step_has_touched_has_no_state():
    model = build(plan())
    optimizers = Optimizers(model, MUON)
    stepped(optimizers, model, 1)
    state = {key: value for key, value in optimizers.state_dict().items() if "blocks.0." not in key}
    others = Optimizers(model, MUON)
    others.load_state_dict(state)
    assert 0 < len(state) < len(optimizers.state_dict()) and others.state_dict().keys() == state.keys()


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ConfigError, match="AdamW and Muon"):
        Optimizers(build(plan()), spec.Optimizer())


@pytest.mark.parametrize("made", [spec.lstm, spec.bahdanau, spec.luong, spec.gehring])
def test_muon_has_the_matrices_of_recurrent_and_convolutional_layers(made):
    model = build(made(layers=1, width=16, vocab=30))
    optimizers = Optimizers(model, MUON)
    muon, adamw = (
        {optimizers.names[p] for group in part.param_groups for p in group["params"]}
        for part in optimizers.parts
    )
    sizes = {name: p.dim() for name, p in model.named_parameters()}
    outside = {"token", "position", "head"}
    assert muon == {name for name, size in sizes.items() if size > 1 and not outside & set(name.split("."))}
    assert muon and muon | adamw == set(sizes) and not muon & adamw


def test_muon_refuses_a_model_without_hidden_matrices():
    with pytest.raises(ConfigError, match="Muon steps the matrices of blocks and layers"):
        Optimizers(torch.nn.Linear(3, 4), MUON)
