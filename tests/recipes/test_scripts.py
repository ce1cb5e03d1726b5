"""The scripts beside the recipes do what their READMEs say: each runs once, on a tiny run or tiny results."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cutaway import spec
from cutaway.app.results import SeedResult, write_result
from cutaway.errors import InputMissingError
from cutaway.spec.recipes import RECIPE
from cutaway.train.runner import Runner
from tests.house.tree import ROOT
from tests.recipes.scripts import script

pytest.importorskip("matplotlib", reason="cutaway[plot] is not installed")
pytest.importorskip("sacrebleu", reason="cutaway[eval] is not installed")
PARTS = ("train", "val", "test", "test_help", "test_captions")
RESULT = SeedResult(
    *("1-lstm", 3, 0.5, {"test": 2.5}, 2.0, 900, 12_345, "a command", None, {}),
    curve=((1, 1.0, 3.0), (2, 2.0, 2.5)),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Pairs of sentences of two to seven words."""
    folder = tmp_path_factory.mktemp("data")
    for part in PARTS:
        for language, word in (("en", "a red shirt"), ("de", "ein rotes Hemd")):
            lines = (f"{word} {' '.join('xyzw'[:n])}\n" for n in range(5))
            (folder / f"{part}.{language}").write_text("".join(lines) * 2)
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """Two steps of a small writer with attention, seed 3."""
    out = tmp_path_factory.mktemp("runs") / "1-lstm-seed-3"
    steps = spec.Run(steps=2, batch=64, length=32, seed=3, precision="fp32", compile="off", threads=1)
    plan = spec.Parallel(str(data), "en", "de", test="test", vocab=300)
    recipe = spec.Recipe("1-lstm", spec.bahdanau(layers=1, width=8), plan, steps)
    Runner(recipe, out).train()
    return out


def is_picture(path: Path) -> bool:
    return path.read_text().startswith("<?xml")


def test_lengths_are_kept_by_seed_and_drawn_from_all(run, data, tmp_path, monkeypatch):
    figure = script("bottleneck", "figure.py")
    monkeypatch.setattr(figure.bleu, "LENGTHS", (3, 5))
    with pytest.raises(InputMissingError, match=r"no seed measured yet; run `figure\.py DATA RUN"):
        figure.draw_lengths(tmp_path)
    found = figure.measure(data, run)
    assert [row["sentences"] for row in found["help"]] == [2, 4, 4]
    assert list(found) == ["help", "help joined", "captions", "captions joined"]
    assert [row["sentences"] for row in found["help joined"]] == [4, 2, 1, 1], "of 6 words and more"
    path = figure.keep(tmp_path, run, found)
    assert path.name == "lengths-seed-3.json" and json.loads(path.read_text()) == {"1-lstm": found}
    path.write_text(json.dumps({"0-other": found, "1-lstm": None}))
    figure.keep(tmp_path, run, found)
    assert json.loads(path.read_text()) == {"0-other": found, "1-lstm": found}, "the others stay"

    for kind in found.values():
        for row, score in zip(kind, (2.0, 4.0, 6.0, 8.0)[: len(kind)], strict=True):
            row["bleu"] = score
    other = {kind: [row | {"bleu": row["bleu"] + 2} for row in rows] for kind, rows in found.items()}
    (tmp_path / "lengths-seed-4.json").write_text(json.dumps({"1-lstm": other}))
    path.write_text(json.dumps({"1-lstm": found}))
    monkeypatch.setattr(figure, "FEWEST", 3)
    assert drawn_lines(monkeypatch, lambda: figure.draw_lengths(tmp_path)) == [[5.0, 7.0]] * 2 + [[3.0]] * 2
    assert is_picture(tmp_path / "lengths.svg")


def drawn_lines(monkeypatch, draw) -> list[list[float]]:
    """The heights of every line that a script plots."""
    from matplotlib.axes import Axes

    plot, lines = Axes.plot, []

    def keep(self, places, values, *style, **options):
        lines.append(list(values))
        return plot(self, places, values, *style, **options)

    monkeypatch.setattr(Axes, "plot", keep)
    draw()
    return lines


@pytest.mark.filterwarnings("ignore:Glyph")  # who learned nothing writes any byte
def test_alignments_are_kept_by_seed_and_drawn_from_all(run, data, tmp_path, monkeypatch):
    figure = script("alignment", "figure.py")
    counts = {"captions": 8, "looked at the colour": 0.75, "the diagonal would": 0.25}
    monkeypatch.setattr(figure, "count_colours", lambda model, captions: counts | {"captions": len(captions)})
    monkeypatch.setattr(figure, "SENTENCE", "a red shirt")
    assert figure.examine(run, str(data), tmp_path)["captions"] == 10
    assert is_picture(tmp_path / "alignment-seed-3.svg")
    assert json.loads((tmp_path / "alignment-seed-3.json").read_text()) == counts | {"captions": 10}
    (tmp_path / "alignment-seed-4.json").write_text(json.dumps(counts | {"looked at the colour": 0.5}))
    lines = drawn_lines(monkeypatch, lambda: figure.draw_colours(tmp_path))
    assert len(lines) == 2 and is_picture(tmp_path / "colours.svg")


@pytest.mark.filterwarnings("ignore:Glyph")
def test_the_alignment_of_a_sentence_is_drawn(run, tmp_path):
    out = tmp_path / "made" / "alignment.svg"
    assert script("translate-quick", "figure.py").draw_sentence(run, "a red shirt", out) == out
    assert is_picture(out)


@pytest.fixture
def ladder(tmp_path, monkeypatch):
    """The scripts of the ladder, in a folder of two rungs."""
    modules = [script("multi30k-ladder", name) for name in ("compare.py", "figure.py")]
    for module in modules:
        monkeypatch.setattr(module, "HERE", tmp_path)
    for name in ("1-lstm", "2-gru"):
        (tmp_path / name).mkdir()
        for file in (RECIPE, "expected.json"):
            (tmp_path / name / file).write_bytes(
                (ROOT / "recipes/multi30k-ladder" / name / file).read_bytes()
            )
        write_result(tmp_path / name / "results", replace(RESULT, recipe=name))
    return modules


def test_rungs_are_compared(ladder, run, tmp_path, monkeypatch):
    compare, _ = ladder
    monkeypatch.setattr(compare.bleu, "BOOTSTRAP_SAMPLES", 20)
    monkeypatch.setattr(compare.torch, "set_num_threads", lambda count: None)
    runs = tmp_path / "runs"
    runs.mkdir()
    for name in ("1-lstm", "2-gru"):
        (runs / f"{name}-seed-3").symlink_to(run)
    assert compare.compare_rungs(runs, 4)["rows"] == []
    found = compare.compare_rungs(runs, 3)
    assert [row["rung"] for row in found["rows"]] == ["1-lstm", "2-gru"]
    assert all(set(compare.COLUMNS) <= row.keys() for row in found["rows"])
    assert [(test["below"], test["difference"], test["p"]) for test in found["bootstrap"]] == [
        ("1-lstm", 0.0, 1.0)
    ] * 2
    assert compare.told(found).count("\n| 1-lstm | 12,345 |") == 1


def test_the_speed_of_training_is_that_of_the_median_step(ladder, tmp_path):
    steps = [(100, 1.0), (200, 1.5), (320, 2.0), (390, 7.0), (590, 7.5)]  # 100, 200, 240, 14, 400 tokens/s
    lines = [{"step": n, "loss": 1.0, "tokens": t, "seconds": s} for n, (t, s) in enumerate(steps, 1)]
    lines.insert(3, {"step": 3, "validation": 2.0})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert ladder[0].trained_rate(tmp_path) == pytest.approx(200)


def test_the_ladder_is_drawn_from_what_was_compared(ladder, tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    _, figure = ladder
    for seed, score in ((1, 14.0), (2, 16.0)):
        rows = [{"rung": "1-lstm", "greedy BLEU": score, "beam 5 BLEU": score + 1}]
        if seed == 1:  # the other rung of seed 2 is still to come
            rows.append({"rung": "2-gru", "greedy BLEU": 20.0, "beam 5 BLEU": 22.0})
        told = json.dumps({"seed": seed, "rows": rows})
        (tmp_path / f"compare-seed-{seed}.json").write_text(told)
    bars, draw = [], Axes.bar
    monkeypatch.setattr(
        Axes,
        "bar",
        lambda self, *given, **options: bars.append((given, options)) or draw(self, *given, **options),
    )
    assert is_picture(figure.draw_ladder(tmp_path, tmp_path / "made" / "ladder.svg"))
    assert [given[1] for given, _ in bars] == [[15.0, 20.0], [16.0, 22.0]]
    assert [options["yerr"] for _, options in bars] == [[[1.0, 0.0], [1.0, 0.0]]] * 2


@pytest.mark.parametrize(
    ("recipe", "members", "draw"),
    [
        ("bert-small", ("2-sst2", "3-sst2-scratch", "4-trec", "5-trec-scratch"), "draw_accuracies"),
        ("shakespeare-rnn", ("1-lstm", "2-transformer"), "draw_losses"),
    ],
)
def test_committed_seeds_are_drawn(recipe, members, draw, tmp_path, monkeypatch):
    figure = script(recipe, "figure.py")
    monkeypatch.setattr(figure, "HERE", tmp_path)
    for name in members:
        for seed in (1, 2):
            figures = RESULT.figures | {"validation_head": 1.25}
            made = replace(RESULT, recipe=name, seed=seed, figures=figures)
            write_result(tmp_path / name / "results", made)
        (tmp_path / name / RECIPE).touch()
    lines = drawn_lines(monkeypatch, lambda: getattr(figure, draw)(tmp_path / "made" / "a.svg"))
    assert sum(map(len, lines)) == 2 * len(members) * (1 if recipe == "bert-small" else len(RESULT.curve))
    if recipe == "shakespeare-rnn":  # the last of the curve is of the whole text, the others of its head
        assert {line[-1] for line in lines} == {1.25}
    assert is_picture(tmp_path / "made" / "a.svg")


def test_training_speeds_are_measured_and_drawn(tmp_path, monkeypatch, capsys):
    figure = script("parallel", "figure.py")
    small = {"LSTM": spec.lstm(1, 8, vocab=256), "transformer": spec.quick(1, 8, 2, vocab=256)}
    for name, value in {"MODELS": small, "LENGTHS": (4, 8), "TOKENS": 16, "TURNS": 1}.items():
        monkeypatch.setattr(figure, name, value)
    monkeypatch.setattr(figure.torch, "set_num_threads", lambda count: None)
    rates = figure.measure(0.0)
    assert {name: len(values) for name, values in rates.items()} == {"LSTM": 2, "transformer": 2}
    assert all(rate > 0 for values in rates.values() for rate in values)
    assert drawn_lines(monkeypatch, lambda: figure.draw_rates(rates, tmp_path / "a.svg")) == [*rates.values()]
    assert is_picture(tmp_path / "a.svg")
