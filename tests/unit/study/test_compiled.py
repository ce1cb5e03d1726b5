"""The same edits and traces inside compiled graphs: equal to eager, and a sweep compiles once."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from cutaway import models, spec
from cutaway.errors import TapError
from cutaway.study import ablate, edit, replace, skip, trace
from tests.unit.tiny import plan, reads, redrawn

pytestmark = [
    pytest.mark.compiled,
    # torch.compile makes an instance of every autograd.Function it meets, and warns of it itself
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
TOKENS = reads(plan("gpt2"))[0]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def twelve_heads() -> models.Single:
    return redrawn(models.build(spec.gpt2(layers=2, width=48, heads=12, vocab=11, length=12)))


def whole(model: nn.Module, backend: str) -> nn.Module:
    return torch.compile(model, backend=backend, fullgraph=True)


def in_place(model: nn.Module, backend: str) -> nn.Module:
    model.compile(backend=backend, fullgraph=True)
    return model


def by_block(model: nn.Module, backend: str) -> nn.Module:
    for block in model.blocks:
        block.compile(backend=backend, fullgraph=True)
    return model


@pytest.mark.parametrize("way", [whole, in_place, by_block])
@torch.no_grad()
def test_twelve_heads_one_graph(way: Callable[[nn.Module, str], nn.Module]):
    model = twelve_heads()
    plain, wanted = model(TOKENS), []
    for head in range(12):
        with edit(model, {"blocks.1.attn.mix": ablate(heads=[head])}):
            wanted.append(model(TOKENS))
    assert all((want - plain).abs().max() > 1e-3 for want in wanted)
    run = way(model, "eager")
    assert (run(TOKENS) - plain).abs().max() <= 1e-12
    before = graphs()
    for head in range(12):
        with edit(run, {"blocks.1.attn.mix": ablate(heads=[head])}):
            assert (run(TOKENS) - wanted[head]).abs().max() <= 1e-12
    assert graphs() == before + 1, "one graph for the twelve"
    for position in range(7):
        with edit(run, {"blocks.1.attn.mix": ablate(positions=[position])}):
            run(TOKENS)
    assert graphs() == before + 2, "one more for all positions"
    assert (run(TOKENS) - plain).abs().max() <= 1e-12
    assert graphs() == before + 2, "and none to look away again"


@torch.no_grad()
def test_blocks_share_a_graph_whichever_layer_is_looked_at():
    model = twelve_heads()
    run = by_block(model, "eager")
    run(TOKENS)
    before = graphs()
    for depth in range(2):
        with edit(run, skip(f"blocks.{depth}")):
            run(TOKENS)
    assert graphs() == before + 1
    trace(run, TOKENS)
    assert graphs() == before + 2, "one traced graph for all layers"
    trace(run, TOKENS[:1])


@torch.no_grad()
def test_more_edits_than_torch_keeps_graphs():
    """A different tap is a different graph; torch.compile stops at eight unless told."""
    model = twelve_heads()
    run = whole(model, "eager")
    names = [f"blocks.{d}.{site}" for d in (0, 1) for site in ("in", "mid", "out", "ffn.up", "ffn.out")]
    for name in names:
        with edit(model, {name: ablate(positions=[3])}):
            eager, compiled = model(TOKENS), run(TOKENS)
        assert (eager - compiled).abs().max() <= 1e-12
    assert graphs() == len(names) == 10


@torch.no_grad()
def test_traces_are_equal():
    model = twelve_heads()
    want = trace(model, TOKENS)
    seen = trace(whole(model, "eager"), TOKENS)
    assert list(seen) == list(want)
    assert all(torch.equal(seen[name], want[name]) for name in want)


@torch.no_grad()
def test_a_pair_is_edited_and_traced():
    model = redrawn(models.build(plan("t5")))
    pair = reads(plan("t5"))
    run = whole(model, "eager")
    changes = {
        "decoder.blocks.0.cross.pattern": ablate(heads=[1]),
        "encoder.blocks.0.out": ablate(positions=[2]),
    }
    with edit(model, changes):
        want = model(*pair)
        assert (run(*pair) - want).abs().max() <= 1e-12
        assert (trace(run, pair, keep="logits")["logits"] - want).abs().max() <= 1e-12
    assert (want - model(*pair)).abs().max() > 1e-3


@torch.no_grad()
def test_what_is_wrong_does_not_pass_in_silence():
    model = twelve_heads()
    run = whole(model, "eager")
    run(TOKENS)
    with (
        pytest.raises(TapError, match=r"position 7: there are 7 positions"),
        edit(run, {"blocks.0.out": ablate(positions=[7])}),
    ):
        run(TOKENS)
    with pytest.raises(TapError, match="never applied"), edit(run, {"blocks.0.out": ablate()}):
        pass
    with pytest.raises(TapError, match="does not fit"), edit(run, {"blocks.0.out": replace(torch.zeros(5))}):
        run(TOKENS)
    with (
        pytest.raises(Exception, match=r"(?s)does not fit|Observed exception"),
        edit(run, {"blocks.0.out": replace(torch.zeros(3, 48))}),
    ):
        run(TOKENS)


@torch.no_grad()
def test_other_models_and_threads_do_not_compile_anew_each_time():
    model, run = twelve_heads(), whole(twelve_heads(), "eager")
    plain = run(TOKENS)
    before = graphs()
    others = [twelve_heads() for _ in range(3)]
    for other in others:
        with edit(other, skip("blocks.0")):
            other(TOKENS)
            assert torch.equal(run(TOKENS), plain)
    assert graphs() <= before + 1
    assert torch.equal(model(TOKENS), plain)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own imports
@torch.no_grad()
def test_under_inductor():
    model = twelve_heads().float()
    want = trace(model, TOKENS)
    with edit(model, {"blocks.1.attn.mix": ablate(heads=[3])}):
        edited = model(TOKENS)
    run = by_block(model, "inductor")
    seen = trace(run, TOKENS)
    # relative to the numbers at a tap, which reach 40 in the residual stream and 1 in a pattern
    sizes = {name: value[value.isfinite()].abs().max() for name, value in want.items()}
    assert all((seen[n] - want[n]).nan_to_num(0.0, 0.0, 0.0).abs().max() <= 5e-6 * sizes[n] for n in want)
    with edit(run, {"blocks.1.attn.mix": ablate(heads=[3])}):
        assert (run(TOKENS) - edited).abs().max() <= 2e-5
    assert (run(TOKENS) - want["logits"]).abs().max() <= 2e-5
    assert (edited - want["logits"]).abs().max() > 1e-3
