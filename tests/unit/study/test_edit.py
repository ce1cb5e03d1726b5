"""Edits: what each says, where, in every way a model is called; and every way to get one wrong."""

import threading

import pytest
import torch
from torch import Tensor

from cutaway.errors import TapError
from cutaway.models import AnyModel
from cutaway.study import ablate, add, edit, replace, scale, skip, trace
from cutaway.tap import Copy, Recorder, Replace
from tests.unit.tiny import plan, reads, tiny

TOKENS = reads(plan("gpt2"))[0]


def seen_with(model: AnyModel, name: str, change: object) -> tuple[Tensor, Tensor]:
    """The value at a tap without and with a change of it."""
    inputs = reads(model.plan)
    given = inputs if len(inputs) > 1 else inputs[0]
    before = trace(model, given, keep=name)[name]
    with edit(model, {name: change}):
        return before, trace(model, given, keep=name)[name]


@pytest.mark.parametrize("preset", ["gpt2", "small", "bert", "t5"])
def test_ablate_heads(preset):
    model = tiny(preset)
    name = "decoder.blocks.1.cross.mix" if preset == "t5" else "blocks.1.attn.mix"
    before, after = seen_with(model, name, ablate(heads=[0, 3]))
    assert not after[:, [0, 3]].any() and torch.equal(after[:, 1:3], before[:, 1:3])


def test_ablate_positions():
    before, after = seen_with(tiny("gpt2"), "blocks.0.out", ablate(positions=[2, 5]))
    assert not after[:, [2, 5]].any()
    assert torch.equal(after[:, [0, 1, 3, 4, 6]], before[:, [0, 1, 3, 4, 6]])


def test_ablate_heads_at_positions():
    before, after = seen_with(tiny("gpt2"), "blocks.0.attn.mix", ablate(heads=[1], positions=[2]))
    assert not after[:, 1, 2].any()
    after[:, 1, 2] = before[:, 1, 2]
    assert torch.equal(after, before)


def test_ablate_by_the_mean():
    before, after = seen_with(tiny("gpt2"), "blocks.0.attn.mix", ablate(heads=[1], with_="mean"))
    want = before[:, 1].mean((0, 1))
    torch.testing.assert_close(after[:, 1], want.expand_as(after[:, 1]), rtol=0, atol=1e-12)
    assert torch.equal(after[:, 0], before[:, 0])
    given = torch.arange(4.0)
    _, after = seen_with(tiny("gpt2"), "blocks.0.attn.mix", ablate(heads=[1], with_=given))
    assert torch.equal(after[:, 1], given.double().expand_as(after[:, 1]))


def test_ablating_scores_keeps_the_numbers_finite():
    _, after = seen_with(tiny("gpt2"), "blocks.0.attn.scores", ablate(heads=[0]))
    assert not after[:, 0].any(), "zero in place of minus infinity, not zero times it"


def test_replace_scale_add():
    model, vector = tiny("gpt2"), torch.randn(16, generator=torch.Generator().manual_seed(0)).double()
    before, after = seen_with(model, "blocks.0.out", replace(vector, positions=[1, 2]))
    assert torch.equal(after[:, 1:3], vector.expand(2, 2, 16)) and torch.equal(after[:, 3:], before[:, 3:])
    rows = torch.stack([vector, -vector])
    _, after = seen_with(model, "blocks.0.out", replace(rows, positions=[4, 1]))
    assert torch.equal(after[:, 4], vector.expand(2, 16)) and torch.equal(after[:, 1], -vector.expand(2, 16))
    assert torch.equal(after[:, 2], before[:, 2])
    _, after = seen_with(model, "blocks.0.out", scale(2.0, positions=[0]))
    assert torch.equal(after[:, 0], before[:, 0] * 2) and torch.equal(after[:, 1:], before[:, 1:])
    _, after = seen_with(model, "blocks.0.out", add(vector))
    assert torch.equal(after, before + vector)
    before, after = seen_with(model, "blocks.0.attn.k", scale(0.5, heads=[3]))
    assert torch.equal(after[:, 3], before[:, 3] * 0.5) and torch.equal(after[:, :3], before[:, :3])


@pytest.mark.parametrize("preset", ["gpt2", "small", "bert", "quick"])
@pytest.mark.parametrize(
    ("path", "end", "start"),
    [("blocks.1", "out", "in"), ("blocks.1.attn", "mid", "in"), ("blocks.1.ffn", "out", "mid")],
)
def test_skip(preset, path, end, start):
    model = tiny(preset)
    with edit(model, skip(path)):
        seen = trace(model, reads(model.plan)[0])
    assert torch.equal(seen[f"blocks.1.{end}"], seen[f"blocks.1.{start}"])
    assert not torch.equal(seen["logits"], trace(model, reads(model.plan)[0])["logits"])


@pytest.mark.parametrize("part", ["", ".attn", ".cross", ".ffn"])
def test_skip_in_a_decoder(part):
    model, pair = tiny("vaswani"), reads(plan("vaswani"))
    ends = {
        "": ("out", "in"),
        ".attn": ("mid", "in"),
        ".cross": ("crossed", "mid"),
        ".ffn": ("out", "crossed"),
    }
    with edit(model, skip(f"decoder.blocks.0{part}")):
        seen = trace(model, pair)
    end, start = ends[part]
    assert torch.equal(seen[f"decoder.blocks.0.{end}"], seen[f"decoder.blocks.0.{start}"])


def test_skipping_every_layer_leaves_the_embedding():
    model = tiny("gpt2")
    with edit(model, skip("blocks.*")):
        seen = trace(model, TOKENS)
    assert torch.equal(seen["blocks.1.out"], seen["input.out"])
    want = model.head(model.final_norm(seen["input.out"]), model.vocab_matrix)
    assert torch.equal(seen["logits"], want)


def test_wildcards_aliases_bare_edits_and_several_mappings():
    model = tiny("gpt2")
    with edit(
        model, {"blocks.*.attn.hook_z": ablate(heads=[1])}, skip("blocks.0.ffn"), {"logits": scale(2.0)}
    ):
        seen = trace(model, TOKENS)
    assert not seen["blocks.0.attn.mix"][:, 1].any() and not seen["blocks.1.attn.mix"][:, 1].any()
    with edit(model, {"blocks.1.out": Copy("in")}):
        copied = model(TOKENS)
    with edit(model, skip("blocks.1")):
        assert torch.equal(model(TOKENS), copied)
    value = torch.zeros(16, dtype=torch.float64)
    with edit(model, {"blocks.0.out": Replace(value)}):
        assert not trace(model, TOKENS)["blocks.0.out"].any()


CHANGES = {
    "heads": {"blocks.0.attn.mix": ablate(heads=[1])},
    "positions": {"blocks.0.out": ablate(positions=[4, 6])},
    "rows": {"blocks.0.out": replace(torch.randn(2, 16, generator=torch.Generator().manual_seed(1)), [6, 4])},
    "layer": skip("blocks.1"),
    "attention": skip("blocks.0.attn"),
    "pattern": {"blocks.*.attn.pattern": ablate(heads=[0])},
    "keys": {"blocks.0.attn.k": scale(3.0, positions=[2])},
    "norm": {"blocks.0.mixer_norm.scale": scale(2.0)},
    "embedding": {"input.out": add(torch.arange(16) / 16, positions=[5])},
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("preset", ["gpt2", "small"])
def test_decoding_step_by_step_runs_with_the_same_edits(preset, kind):
    """A position is a place in the text, whichever step brings it."""
    if preset == "small" and kind == "keys":
        pytest.skip("QK-norm takes a scale of the key back")
    model = tiny(preset)
    plain = model(TOKENS)
    with edit(model, CHANGES[kind]):
        whole = model(TOKENS)
    assert (whole - plain).abs().max() > 1e-6
    for cuts in ([7], [5, 2], [1] * 7, [2, 3, 2]):
        with edit(model, CHANGES[kind]):
            state = model.start()
            steps = [model.step(some, state) for some in TOKENS.split(cuts, dim=1)]
        torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "change",
    [
        {"encoder.blocks.0.attn.mix": ablate(heads=[1])},
        {"encoder.blocks.1.out": ablate(positions=[3])},
        {"decoder.blocks.0.cross.pattern": ablate(heads=[2])},
        {"decoder.blocks.0.cross.k": scale(2.0)},
        {"decoder.blocks.1.out": add(1.0, positions=[3])},
        skip("decoder.blocks.1.cross"),
        skip("encoder.blocks.*"),
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_encoder_decoder_decodes_with_edits_on_both_sides(change):
    model, (source_BM, target_BL) = tiny("t5"), reads(plan("t5"))
    plain = model(source_BM, target_BL)
    with edit(model, change):
        whole = model(source_BM, target_BL)
    with edit(model, change):
        state = model.start(source_BM)
        steps = [model.step(some, state) for some in target_BL.split(1, dim=1)]
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=0, atol=1e-10)
    assert (whole - plain).abs().max() > 1e-6


def test_the_training_loss_feels_edits_too():
    model = tiny("gpt2")
    plain = model.features(TOKENS)
    with edit(model, skip("blocks.0")):
        assert not torch.equal(model.features(TOKENS), plain)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"blocks.0.attn.mix": ablate(heads=[4])}, r"blocks.0.attn.mix has heads 0 to 3, not \[4\]"),
        ({"blocks.0.attn.mix": ablate(heads=[-1])}, "has heads 0 to 3"),
        ({"blocks.0.attn.mix": ablate(heads=[])}, "has heads 0 to 3"),
        ({"blocks.0.out": ablate(heads=[0])}, r"blocks.0.out has no heads: its shape is \(any, any, 16\)"),
        ({"blocks.0.out": ablate(positions=[-1])}, "positions count from 0"),
        (
            {"blocks.0.out": ablate(positions=[7])},
            "the edit at blocks.0.out, position 7: there are 7 positions",
        ),
        (
            {"blocks.0.out": replace(torch.zeros(5))},
            r"edit at blocks.0.out: \(5,\) does not fit \(any, any, 16\)",
        ),
        ({"blocks.0.out": replace(torch.zeros(3, 16))}, r"\(3, 16\) does not fit \(2, 7, 16\)"),
        ({"blocks.0.attn.mix": scale(torch.ones(3, 1, 1))}, r"does not fit \(any, 4, any, 4\)"),
        (
            {"blocks.0.atn.mix": ablate()},
            "no tap is called 'blocks.0.atn.mix': did you mean blocks.0.attn.mix",
        ),
        (skip("blocks.2"), "skip: 'blocks.2' is no layer"),
        (skip("blocks.0.cross"), "is no layer"),
    ],
)
def test_what_is_wrong_is_refused(change, said):
    model = tiny("gpt2")
    plain = model(TOKENS)
    with pytest.raises(TapError, match=said), edit(model, change):
        model(TOKENS)
    assert torch.equal(model(TOKENS), plain), "a refused edit leaves nothing behind"


def test_other_refusals():
    model, images = tiny("gpt2"), tiny("vit")
    with pytest.raises(TapError, match="with_ is 'zero', 'mean' or a tensor"):
        ablate(with_="nothing")
    with (
        pytest.raises(TapError, match=r"two changes at blocks.0.out"),
        edit(model, {"blocks.*.out": ablate()}, skip("blocks.0")),
    ):
        pass
    with (
        pytest.raises(TapError, match=r"head.pooled has no positions: its shape is \(any, 16\)"),
        edit(images, {"head.pooled": ablate(positions=[0])}),
    ):
        pass
    with (
        pytest.raises(TapError, match="a step of decoding has no mean"),
        edit(model, {"blocks.0.out": ablate(with_="mean")}),
    ):
        model.step(TOKENS, model.start())


def test_an_edit_that_was_never_applied_is_an_error():
    model, other = tiny("gpt2"), tiny("gpt2")
    said = "the edit at blocks.0.out was never applied"
    with pytest.raises(TapError, match=said), edit(model, {"blocks.0.out": ablate()}):
        pass
    with pytest.raises(TapError, match=said), edit(model, {"blocks.0.out": ablate()}):
        other(TOKENS)
    with pytest.raises(TapError, match=said), edit(model, {"blocks.0.out": ablate()}):
        model(TOKENS, tap=Recorder(["logits"]))
    with (
        pytest.raises(TapError, match=r"position 9: there are 7"),
        edit(model, {"blocks.0.out": ablate(positions=[9])}),
    ):
        model.step(TOKENS, model.start())
    pair = tiny("t5")
    with (
        pytest.raises(TapError, match=r"encoder.blocks.0.out was never"),
        edit(pair, {"encoder.blocks.0.out": ablate()}),
    ):
        pair.decode(TOKENS, torch.zeros(2, 3, 16, dtype=torch.float64))


def test_an_error_inside_is_the_one_that_is_seen():
    with pytest.raises(ZeroDivisionError), edit(tiny("gpt2"), {"blocks.0.out": ablate()}):
        1 / 0  # noqa: B018


def test_another_thread_is_left_alone():
    model = tiny("gpt2")
    plain, found = model(TOKENS), []
    with edit(model, skip("blocks.0")):
        thread = threading.Thread(target=lambda: found.append(model(TOKENS)))
        thread.start()
        thread.join()
        assert not torch.equal(model(TOKENS), plain)
    assert torch.equal(found[0], plain)


def test_nested_edits_join_and_leave_in_any_order():
    model = tiny("gpt2")
    one, two = edit(model, {"blocks.0.out": scale(2.0)}), edit(model, {"blocks.0.out": add(1.0)})
    one.__enter__()
    two.__enter__()
    before = trace(model, TOKENS)["blocks.0.out"]
    one.__exit__(None, None, None)
    after = trace(model, TOKENS)["blocks.0.out"]
    two.__exit__(None, None, None)
    plain = trace(model, TOKENS)["blocks.0.out"]
    assert torch.equal(before, plain * 2 + 1) and torch.equal(after, plain + 1)
