"""Recurrent and convolutional encoder-decoders: padding, decoding, taps, edits, training."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from cutaway import models, spec, study
from cutaway.errors import ConfigError, TapError
from cutaway.generate.decode import Decoding
from cutaway.generate.sample import Sampling
from cutaway.session import Session
from cutaway.spec.check import check_model
from cutaway.study.report import Page
from cutaway.study.specimen import read
from cutaway.tap import Recorder
from cutaway.train.choose import choose
from cutaway.train.finite import first_not_finite
from cutaway.train.flops import training_flops
from cutaway.train.loop import Training
from cutaway.train.loss import Batch
from cutaway.train.optim import Optimizers
from cutaway.train.precision import Working
from cutaway.train.reversing import Reversing
from tests.unit.tiny import BRIDGED, PAIRS, VOCAB, plan, tiny

B, L, M = 3, 6, 5
LENGTHS = (5, 1, 3)
REAL = torch.arange(M)[None] < torch.tensor(LENGTHS)[:, None]
LOOKING = {
    "bahdanau": ["decoder.look"],
    "luong": ["decoder.look"],
    "luong_both": ["decoder.look"],
    "gehring": ["decoder.layers.0.look", "decoder.layers.1.look"],
}


def pairs(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(0, VOCAB, (B, size), generator=generator) for size in (M, L))


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-10), (torch.float32, 2e-6)])
@pytest.mark.parametrize("preset", PAIRS)
def test_padding_and_batch_change_rounding_only(preset, dtype, most):
    model, (source_BM, target_BL) = tiny(preset).to(dtype), pairs()
    together = model(source_BM, target_BL, source_padding_BM=REAL)
    for row, length in enumerate(LENGTHS):
        alone = model(source_BM[row : row + 1, :length], target_BL[row : row + 1])
        assert (together[row] - alone[0]).abs().max() < most
    front_BM = torch.stack([row.roll(M - n) for row, n in zip(source_BM, LENGTHS, strict=True)])
    in_front = model(front_BM, target_BL, source_padding_BM=REAL.flip(1))
    assert (in_front - together).abs().max() < most
    assert (model(source_BM, target_BL) - together)[1:].abs().max() > 1e-3  # the control


@pytest.mark.parametrize("preset", PAIRS)
def test_padding_of_the_target_does_not_count_wherever_it_stands(preset):
    model, (source_BM, target_BL) = tiny(preset), pairs()
    starts = (0, 2, 4)
    front_BL = torch.arange(L)[None] >= torch.tensor(starts)[:, None]
    made = model(source_BM, target_BL, target_padding_BL=front_BL)
    for row, start in enumerate(starts):
        alone = model(source_BM[row : row + 1], target_BL[row : row + 1, start:])
        assert (made[row, start:] - alone[0]).abs().max() < 1e-10
    behind_BL = front_BL.flip(1)
    made, whole = (model(source_BM, target_BL, target_padding_BL=x) for x in (behind_BL, None))
    assert ((made - whole).abs().amax(-1) * behind_BL).max() < 1e-10
    assert (whole[2, 4:] - alone[0]).abs().max() > 1e-3  # the control: row 2 with its padding read as real


@pytest.mark.parametrize("preset", PAIRS)
def test_nothing_goes_on_behind_padding(preset):
    model, (source_BM, target_BL) = tiny(preset), pairs()
    state, real_BL = model.start(source_BM), torch.ones_like(target_BL, dtype=torch.bool)
    model.decode(target_BL, state, padding_BL=real_BL)
    model.step(target_BL[:, :1], state)
    real_BL[1, -1] = False
    state = model.start(source_BM)
    model.decode(target_BL, state, padding_BL=real_BL)
    with pytest.raises(ConfigError, match="ends in padding"):
        model.step(target_BL[:, :1], state)


@pytest.mark.parametrize("preset", PAIRS)
def test_steps_equal_teacher_forcing_however_cut_and_select_permutes(preset):
    model, (source_BM, target_BL) = tiny(preset), pairs()
    whole = model(source_BM, target_BL, source_padding_BM=REAL)
    for cuts in ((0, 6), (0, 1, 2, 3, 4, 5, 6), (0, 3, 4, 6)):
        state = model.start(source_BM, padding_BM=REAL)
        state.reserve(L)
        parts = [model.step(target_BL[:, a:b], state) for a, b in pairwise(cuts)]
        assert (torch.cat(parts, 1) - whole).abs().max() < 1e-10
        assert state.length == L and state.start_B is None
    picked = torch.tensor([2, 0])
    state = model.start(source_BM, padding_BM=REAL)
    model.step(target_BL[:, :2], state)
    state.select(picked)
    rest = model.step(target_BL[picked, 2:], state)
    assert (rest - whole[picked, 2:]).abs().max() < 1e-10
    assert (rest - whole[picked.flip(0), 2:]).abs().max() > 1e-3


@pytest.mark.parametrize("preset", PAIRS)
def test_a_state_goes_back_or_says_that_it_cannot(preset):
    model, (source_BM, target_BL) = tiny(preset), pairs()
    state = model.start(source_BM)
    whole = model.step(target_BL, state)
    if preset == "gehring":
        state.truncate(2)
        assert (model.step(target_BL[:, 2:], state) - whole[:, 2:]).abs().max() < 1e-10
    else:
        with pytest.raises(ConfigError, match="cannot go back"):
            state.truncate(2)


@pytest.mark.parametrize("preset", PAIRS)
def test_the_target_sees_its_past_and_the_whole_source_by_the_gradient(preset):
    model, (source_BM, target_BL) = tiny(preset, layers=2), pairs()
    for place in (0, 2, L - 1):
        tap = Recorder(["encoder.input.token", "decoder.input.token"])
        model(source_BM, target_BL, tap=tap)[:, place].sum().backward(inputs=list(model.parameters()))
        read, written = tap.seen.values()
        logits = model(source_BM, target_BL, tap=(tap := Recorder(tap.keep)))
        read, written = torch.autograd.grad(logits[:, place].sum(), list(tap.seen.values()))
        assert bool(read.abs().sum((0, 2)).all()), "every position of the source counts"
        reached = [bool(written[:, other].any()) for other in range(L)]
        assert not any(reached[place + 1 :]) and reached[place]


@pytest.mark.parametrize("preset", PAIRS)
def test_names_are_module_paths_a_function_of_the_spec_and_fire_once(preset):
    of = plan(preset)
    model, names = models.build(of).eval(), models.sites(of, B, M)
    tap = Recorder(names)
    model(*(torch.zeros(B, M, dtype=torch.long),) * 2, tap=tap)
    assert {name: tuple(value.shape) for name, value in tap.seen.items()} == names
    for name in names:
        path = name.rpartition(".")[0].replace("encoder.input", "source").replace("decoder.input", "source")
        assert model.get_submodule(path) is not None
    inputs = ["token", "position", "out"] if preset == "gehring" else ["token", "out"]
    expected = {f"{side}.input.{one}" for side in ("encoder", "decoder") for one in inputs} | {"logits"}
    expected |= {f"{side}.layers.{depth}.out" for side in ("encoder", "decoder") for depth in range(2)}
    for look in LOOKING.get(preset, ()):
        expected |= {f"{look}.{site}" for site in ("scores", "pattern", "mix")}
        expected |= set() if preset == "gehring" else {f"{look}.out"}
    assert set(names) == expected


@pytest.mark.parametrize("preset", LOOKING)
def test_a_trace_reads_the_pattern_like_attention_and_changes_no_number(preset):
    model, read = tiny(preset), pairs()
    trace = study.trace(model, read)
    assert (trace["logits"] - model(*read)).abs().max() < 1e-12
    for look in LOOKING[preset]:
        pattern, scores = trace[f"{look}.pattern"], trace[f"{look}.scores"]
        assert pattern.shape == scores.shape == (B, 1, L, M)
        assert torch.allclose(pattern, scores.softmax(-1))
    only = study.trace(model, read, keep=f"{LOOKING[preset][0]}.pattern")
    assert len(only) == 1
    with pytest.raises(TapError, match="no tap"):
        study.trace(model, read, keep="decoder.look.patern")


def hand_made(preset: str, model: nn.Module, read: tuple[Tensor, Tensor], pattern: Tensor) -> Tensor:
    """The logits with a pattern (B, L, M) in place of the model's, by the equations of its paper."""
    source_BM, target_BL = read
    memory = model.encode(source_BM).memory
    x_BLD = model.written(target_BL, positions=torch.arange(L)[None], last=L - 1)
    decoder, state = model.decoder, model.start(source_BM)
    found = pattern @ memory.values
    if preset.startswith("luong"):
        y_BLD = decoder.run(x_BLD, state)
        last = torch.tanh(decoder.look.out(torch.cat([found, y_BLD], -1)))
    elif preset == "bahdanau":
        y_BLD = decoder.run(torch.cat([x_BLD, found], -1), state)
        last = torch.tanh(decoder.look.out(torch.cat([found, x_BLD, y_BLD], -1)))
    else:
        (layer,), half = decoder.layers, 0.5**0.5
        made = layer.convolution.gated(nn.functional.pad(x_BLD, (0, 0, 2, 0)))
        last = (x_BLD + (made + found * M**0.5) * half) * half
    return nn.functional.linear(last, model.source.token.weight, model.head.bias)


@pytest.mark.parametrize("preset", LOOKING)
def test_an_edit_of_the_pattern_is_the_computation_by_hand(preset):
    model, read = tiny(preset, layers=1), pairs()
    look = LOOKING[preset][0]
    drawn = torch.rand(B, L, M, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    before = model(*read)
    with study.edit(model, {f"{look}.pattern": study.replace(drawn[:, None])}):
        edited = model(*read)
        seen = study.trace(model, read)[f"{look}.pattern"]
    assert torch.equal(seen[:, 0], drawn)
    assert (edited - hand_made(preset, model, read, drawn)).abs().max() < 1e-10
    assert (edited - before).abs().max() > 1e-3
    own = study.trace(model, read)[f"{look}.pattern"]
    assert (hand_made(preset, model, read, own[:, 0]) - before).abs().max() < 1e-10
    assert (hand_made(preset, model, read, drawn.flip(1)) - edited).abs().max() > 1e-3  # the control


@pytest.mark.parametrize("preset", LOOKING)
def test_an_edit_acts_at_every_step_of_decoding_and_at_the_positions_named(preset):
    model, (source_BM, target_BL) = tiny(preset), pairs()
    look = LOOKING[preset][-1]
    plain = model(source_BM, target_BL)
    with study.edit(model, {f"{look}.mix": study.ablate(positions=[3])}):
        whole = model(source_BM, target_BL)
        state = model.start(source_BM)
        steps = [model.step(target_BL[:, a:b], state) for a, b in ((0, 2), (2, 4), (4, 6))]
        seen = study.trace(model, (source_BM, target_BL))[f"{look}.mix"]
    assert (torch.cat(steps, 1) - whole).abs().max() < 1e-10
    assert torch.equal(whole[:, :3], plain[:, :3]) and (whole - plain)[:, 3].abs().max() > 1e-4
    assert not seen[:, :, 3].any() and bool(seen[:, :, 2].any())
    rows = torch.rand(2, M, dtype=torch.float64)
    with study.edit(model, {f"{look}.pattern": study.replace(rows, positions=[1, 4])}):
        seen = study.trace(model, (source_BM, target_BL))[f"{look}.pattern"]
    assert torch.equal(seen[0, 0, [1, 4]], rows) and torch.allclose(seen[0, 0, 2].sum(), seen.new_ones(()))
    with (
        pytest.raises(TapError, match="there are 6 positions"),
        study.edit(model, {f"{look}.mix": study.ablate(positions=[6])}),
    ):
        model(source_BM, target_BL)


def test_an_edit_of_the_wrong_size_and_a_mean_within_a_loop_are_refused():
    model, read = tiny("bahdanau"), pairs()
    for change, said in (
        (study.replace(torch.ones(4, M)), "does not fit"),
        (study.ablate(with_="mean"), "mean"),
    ):
        with pytest.raises(TapError, match=said), study.edit(model, {"decoder.look.pattern": change}):
            model(*read)


@pytest.mark.parametrize("preset", PAIRS)
def test_a_model_learns_to_reverse_and_writes(preset):
    run = spec.Run(steps=30, batch=32, length=16, optimizer=spec.AdamW(3e-3))
    task = Reversing(spec.Reversal(letters=4, shortest=2, longest=5), run)
    of = task.fitted(plan(preset, layers=1, width=32))
    losses = {}
    for rate in (3e-3, 0.0):
        model = models.build(of, 0)
        optimizers = Optimizers(model, spec.AdamW(rate))
        training = Training(Working(model, torch.float32), task, optimizers, run)
        made = [training.advance().loss.item() for _ in range(run.steps)]
        losses[rate] = sum(made[-5:]) / 5 / made[0]
    assert losses[3e-3] < 0.85 < losses[0.0]
    figures = task.judge(model.eval(), lambda: None)
    assert 0 <= figures["exact_strings"] <= 1
    assert task.sample(model).count("\n") == 1


@pytest.mark.parametrize("preset", PAIRS)
def test_decoding_writes_what_the_logits_say_and_drops_rows(preset):
    model = tiny(preset)
    prompts = [[1, 2, 3], [4], [5, 6]]
    decoding = Decoding(model, prompts, max_tokens=5, sampling=Sampling(temperature=0), begin=0)
    rows = [decoding.advance()[0] for _ in range(2)]
    decoding.keep([0, 2])
    rows += [decoding.advance()[0] for _ in range(3)]
    written = [*(row[2] for row in rows[:2]), *(row[1] for row in rows[2:])]
    given = torch.tensor([[0, *written]])
    likeliest = model(torch.tensor([[5, 6]]), given)[0, :-1].argmax(-1)
    assert written == likeliest.tolist()


@pytest.mark.parametrize("preset", PAIRS)
def test_initial_values_depend_on_seed_and_name_alone(preset):
    one, two, other = (models.build(plan(preset), seed) for seed in (0, 0, 1))
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, two.get_parameter(name))
        if parameter.dim() > 1:
            assert not torch.equal(parameter, other.get_parameter(name))
            assert parameter.std() > 0
        elif "bias_ih" in name and isinstance(one.get_submodule(name.rpartition(".")[0]), nn.LSTM):
            ones = torch.zeros(4, 16)
            ones[1] = 1.0  # the forget gate, open
            assert torch.equal(parameter, ones.flatten())
        else:
            assert not parameter.any()
    deeper = models.build(plan(preset, layers=3))
    name = "decoder.layers.1." + ("convolution.weight" if preset == "gehring" else "weight_hh_l0")
    assert torch.equal(one.get_parameter(name), deeper.get_parameter(name))


def test_two_vocabularies_make_two_inputs():
    of = replace(plan("luong"), target=spec.Tokens(7))
    model = models.build(of).double().eval()
    logits = model(torch.tensor([[10, 3]]), torch.tensor([[6, 0, 2]]))
    assert logits.shape == (1, 3, 7) and model.written is model.target


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"encoder": spec.Recurrent(2, "gru")}, "decoder.cell: Multiplicative starts layer by layer"),
        ({"encoder": spec.Recurrent(3)}, "decoder.layers: Multiplicative"),
        (
            {
                "encoder": spec.Recurrent(2, reads="both"),
                "decoder": spec.RecurrentWriter(2, spec.Multiplicative("dot")),
            },
            "decoder.look.form: dot needs equal widths",
        ),
        ({"encoder": spec.Convolutional(2)}, "encoder: Multiplicative starts from the states"),
        ({"decoder": spec.ConvolutionalWriter(2)}, "encoder: a ConvolutionalWriter needs"),
        (
            {"encoder": spec.Recurrent(0), "decoder": spec.RecurrentWriter(2, spec.Additive())},
            "encoder.layers: 0 must be at least 1",
        ),
        ({"decoder": spec.RecurrentWriter(2, spec.Additive(0))}, "decoder.look.hidden: 0"),
        ({"decoder": spec.RecurrentWriter(2, spec.Additive(), dropout=1.0)}, "decoder.dropout: 1.0"),
        (
            {"encoder": spec.Convolutional(2, kernel=4), "decoder": spec.ConvolutionalWriter(2)},
            "encoder.kernel: 4 must be odd",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_with_its_path(changed, said):
    check_model(plan("luong"))
    with pytest.raises(ConfigError, match=said):
        check_model(replace(plan("luong"), **changed))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_additive_takes_any_reader(cell):
    of = replace(
        plan("bahdanau"),
        encoder=spec.Recurrent(3, cell),
        decoder=spec.RecurrentWriter(1, spec.Additive(), "lstm"),
    )
    model, (source_BM, target_BL) = models.build(of).double().eval(), pairs()
    state, whole = model.start(source_BM), model(source_BM, target_BL)
    steps = torch.cat([model.step(target_BL[:, :2], state), model.step(target_BL[:, 2:], state)], 1)
    assert (steps - whole).abs().max() < 1e-10


def test_a_run_computes_in_fp32_uncompiled_and_to_compile_is_refused():
    model = models.build(plan("luong"))
    run = spec.Run(threads=1, device="cpu")
    choice = choose(model, run, 4, 8)
    assert (choice.precision, choice.compile) == ("fp32", "off")
    with pytest.raises(ConfigError, match="compile on: only the blocks of a transformer"):
        choose(model, replace(run, compile="on"), 4, 8)


@pytest.mark.parametrize("preset", PAIRS)
def test_arithmetic_is_counted_by_weights_and_pairs_of_positions(preset):
    model = models.build(plan(preset))
    weights = {name: p.numel() for name, p in model.named_parameters() if p.dim() > 1}
    weights = {name: size for name, size in weights.items() if "position" not in name}
    once = sum(size for name, size in weights.items() if ".bridge." in name or ".first." in name)
    looked = {"bahdanau": 32 + 16, "luong": 2 * 16, "luong_both": 16 + 32, "gehring": 2 * 2 * 16}
    products = sum(weights.values()) - once + once / 9 + 9 * looked.get(preset, 0)
    assert bool(once) == (preset == "bahdanau" or preset in BRIDGED)
    assert training_flops(model, 9) == pytest.approx(6 * products)


@pytest.mark.parametrize("look", ["lens", "switch_off"])
def test_what_needs_blocks_refuses_a_model_without(look):
    with pytest.raises(ConfigError, match="no residual stream of blocks"):
        getattr(study, look)(tiny("luong"), ([1, 2], [3, 4]))


@pytest.mark.parametrize("preset", PAIRS)
def test_the_report_shows_losses_and_what_is_looked_at(preset):
    task = Reversing(spec.Reversal(letters=4, shortest=2, longest=5), spec.Run())
    model = models.build(task.fitted(plan(preset))).eval()
    page = Page(Session(model, task.tokenizer), read(Session(model, task.tokenizer), task.shown()))
    page.add_lens()
    page.add_attention()
    page.add_effects()
    page.add_shapes()
    assert page.render()
    (source, ids), losses = page.specimen.inputs, page.content["text"]["losses"]
    want = torch.nn.functional.cross_entropy(
        model(torch.tensor([source]), torch.tensor([ids]))[0, :-1], torch.tensor(ids[1:]), reduction="none"
    )
    assert losses[1:] == pytest.approx(want.tolist(), abs=1e-4)
    assert losses[1:] != pytest.approx(want.flip(0).tolist(), abs=1e-4)
    assert [found["heads"] for found in page.content["attention"]] == (
        [(1,) * len(LOOKING[preset])] if preset in LOOKING else []
    )
    assert "lens" not in page.content and "effects" not in page.content
    assert dict(page.content["facts"])["layers"] == "2 + 2"


def test_the_first_number_that_is_not_finite_is_found_inside_a_loop():
    model = models.build(plan("bahdanau"))
    with torch.no_grad():
        model.decoder.look.key.weight[0, 0] = float("nan")
    source_BM, target_BL = pairs()
    batch = Batch((source_BM, target_BL), target_BL)
    found = first_not_finite(model, batch)
    assert found is not None and found.startswith("the value at decoder.look.")
    assert first_not_finite(models.build(plan("bahdanau")), batch) is None
