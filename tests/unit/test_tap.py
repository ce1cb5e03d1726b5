"""Taps: reading changes nothing, editing changes what it says, names are right or refused.

B batch   L position   H head   M memory position   K head width   D width
"""

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cutaway import models
from cutaway.errors import TapError
from cutaway.nn.mask import Mask
from cutaway.tap import Add, Chain, Copy, Edit, Recorder, Replace, Scale, Scene, Tap, in_force, off
from tests.unit.tiny import SIZES, plan, reads, tiny


class Nothing(Edit):
    """Hands back what it got."""

    def __call__(self, value: Tensor, scene: Scene) -> Tensor:
        return value


def recorded(model, inputs, **options) -> Recorder:
    tap = Recorder(models.sites(model.plan), **options)
    model(*inputs, tap=tap)
    return tap


@pytest.mark.parametrize("preset", SIZES)
def test_recording_everything_changes_no_bit(preset):
    model, inputs = tiny(preset), reads(plan(preset))
    tap = Recorder(models.sites(model.plan))
    assert torch.equal(model(*inputs, tap=tap), model(*inputs))
    assert list(tap.seen) and torch.equal(tap.seen["logits"], model(*inputs))


@pytest.mark.parametrize("preset", SIZES)
def test_recording_changes_no_gradient(preset):
    slopes = []
    for tap in (off, Recorder(models.sites(plan(preset)))):
        model = tiny(preset)
        model(*reads(plan(preset)), tap=tap).square().sum().backward()
        slopes.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*slopes, strict=True))


@pytest.mark.parametrize("preset", SIZES)
def test_editing_with_itself_changes_nothing(preset):
    """Bitwise, but for edits of scores, pattern and scale, which send the value through the open path."""
    model, inputs = tiny(preset), reads(plan(preset))
    plain = model(*inputs)
    for name in models.sites(model.plan):
        edited = model(*inputs, tap=Recorder(changes={name: Nothing()}))
        opens = name.endswith(("scores", "pattern", "scale", "normalized"))
        assert torch.equal(edited, plain) or (opens and (edited - plain).abs().max() < 1e-12), name


@pytest.mark.parametrize("preset", SIZES)
def test_every_tap_is_on_the_way_to_the_result(preset):
    """An edit of any site moves the logits."""
    model, inputs = tiny(preset), reads(plan(preset))
    plain = model(*inputs)
    for name, shape in models.sites(model.plan).items():
        size = shape[-1] if shape[-1] in (1, 4, 16, 24, 64) else 1  # not positions: their count is the text's
        factor = 0.5 + torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        moved = model(*inputs, tap=Recorder(changes={name: Scale(factor)})) - plain
        assert moved.abs().max() > 1e-9, name


@pytest.mark.parametrize("preset", SIZES)
def test_patching_all_of_one_run_into_another_gives_the_one(preset):
    model = tiny(preset)
    one, other = reads(model.plan, seed=1), reads(model.plan, seed=2)
    seen = recorded(model, other).seen
    names = [name for name in seen if not name.endswith(("scores", "pattern", "scale", "normalized"))]
    changes = {name: Replace(seen[name]) for name in names}
    assert torch.equal(model(*one, tap=Recorder(changes=changes)), model(*other))
    assert not torch.equal(model(*one), model(*other))
    del changes["logits"]
    last = model(*one, tap=Recorder(changes=changes))
    assert torch.equal(last, model(*other)), "the head reads the patched vectors"


@pytest.mark.parametrize("preset", ["gpt2", "llama3", "small", "bert", "t5"])
def test_scores_and_pattern_are_the_open_computation(preset):
    model, inputs = tiny(preset), reads(plan(preset))
    seen = recorded(model, inputs).seen
    for name in (name for name in seen if name.endswith(".pattern")):
        at = name.removesuffix("pattern")
        q = seen.get(at + "q_rotated", seen.get(at + "q_normed", seen[at + "q"]))
        k = seen.get(at + "k_rotated", seen.get(at + "k_normed", seen[at + "k"]))
        k, v = (x.repeat_interleave(q.size(1) // x.size(1), dim=1) for x in (k, seen[at + "v"]))
        scores = q @ k.mT * (1.0 if preset == "t5" else q.size(-1) ** -0.5)
        bias = seen.get(name.split("blocks")[0] + "bias")
        if bias is not None and "cross" not in name:
            scores = scores + bias
        if not (preset == "bert" or "encoder" in name or "cross" in name):
            scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), float("-inf"))
        torch.testing.assert_close(seen[at + "scores"], scores, rtol=0, atol=1e-12)
        torch.testing.assert_close(seen[name], scores.softmax(-1), rtol=0, atol=1e-12)
        torch.testing.assert_close(seen[name] @ v, seen[at + "mix"], rtol=0, atol=1e-12)


def test_edits_do_what_they_say():
    model, (tokens_BL,) = tiny("gpt2"), reads(plan("gpt2"))
    generator = torch.Generator().manual_seed(0)
    term = torch.randn(16, dtype=torch.float64, generator=generator)

    def after(edit: Edit) -> Tensor:
        tap = Recorder(["blocks.0.ffn.out"], {"blocks.0.ffn.out": edit})
        model(tokens_BL, tap=tap)
        return tap.seen["blocks.0.ffn.out"]

    plain = recorded(model, (tokens_BL,)).seen["blocks.0.ffn.out"]
    assert torch.equal(after(Scale(torch.tensor(2.0))), plain * 2)
    assert torch.equal(after(Add(term)), plain + term)
    assert torch.equal(after(Replace(term)), term.expand_as(plain))
    assert torch.equal(after(Chain((Scale(torch.tensor(2.0)), Add(term)))), plain * 2 + term)


def test_copy_skips_what_lies_between():
    model, (tokens_BL,) = tiny("gpt2"), reads(plan("gpt2"))
    tap = Recorder(["blocks.0.in", "blocks.0.out", "blocks.1.in"], {"blocks.0.out": Copy("in")})
    model(tokens_BL, tap=tap)
    assert torch.equal(tap.seen["blocks.0.out"], tap.seen["blocks.0.in"])
    assert torch.equal(tap.seen["blocks.1.in"], tap.seen["blocks.0.in"])
    assert tap.fired == {"blocks.0.out": True}


def test_gradients_reach_a_replaced_value():
    model, (tokens_BL,) = tiny("small"), reads(plan("small"))
    value = recorded(model, (tokens_BL,)).seen["blocks.0.out"].detach().requires_grad_()
    model(tokens_BL, tap=Recorder(changes={"blocks.0.out": Replace(value)}))[:, -1].sum().backward()
    assert value.grad is not None and value.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "edit", [Scale(torch.ones(5)), Add(torch.ones(3, 1, 1)), Replace(torch.ones(2, 7, 16, 1))]
)
def test_a_tensor_of_the_wrong_shape_is_refused(edit):
    model, (tokens_BL,) = tiny("gpt2"), reads(plan("gpt2"))
    with pytest.raises(TapError, match=r"does not fit \(2, 7, 16\)"):
        model(tokens_BL, tap=Recorder(changes={"final_norm.out": edit}))


def test_a_tap_that_fires_twice_is_refused():
    model, (tokens_BL,) = tiny("gpt2"), reads(plan("gpt2"))
    tap = Recorder(["logits"])
    model(tokens_BL, tap=tap)
    with pytest.raises(TapError, match="logits fired twice"):
        model(tokens_BL, tap=tap)


def test_recording_under_checkpointing_is_refused():
    """Backward would run the block again and fire its taps a second time."""
    model, (tokens_BL,) = tiny("gpt2"), reads(plan("gpt2"))
    tap = Recorder(["ffn.hidden"])
    block = model.blocks[0]
    x_BLD = model.input.token(tokens_BL).detach().requires_grad_()
    out = checkpoint(lambda x: block(x, mask=Mask(causal=True), tap=tap), x_BLD, use_reentrant=False)
    with pytest.raises(TapError, match="checkpointing"):
        out.sum().backward()


def test_off_is_nothing():
    value = torch.ones(2)
    assert off("x", value) is value and off.at("y") is off and off.inside("z") is off
    assert not off.wants("x") and not off.edits("x") and off.starting(3) is off
    assert isinstance(off, Tap)


def test_standing_edits_reach_every_call_and_end():
    model, (tokens_BL,) = tiny("gpt2"), reads(plan("gpt2"))
    plain = model(tokens_BL)
    double = {"blocks.0.out": Scale(torch.tensor(2.0))}
    want = model(tokens_BL, tap=Recorder(changes=double))
    with in_force(model, double):
        assert torch.equal(model(tokens_BL), want)
        assert torch.equal(model.step(tokens_BL, model.start()), want)
        assert torch.equal(model(tokens_BL, tap=Recorder()), plain), "a tap of one's own is left alone"
        assert torch.equal(tiny("gpt2")(tokens_BL), plain), "another model is left alone"
        with in_force(model, {"blocks.0.out": Scale(torch.tensor(0.5))}):
            assert torch.equal(model(tokens_BL), plain), "the inner edit works on what the outer one made"
        assert torch.equal(model(tokens_BL), want)
    assert torch.equal(model(tokens_BL), plain)
