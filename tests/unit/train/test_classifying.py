"""Classification: batches, padding, figures, and that a toy is learned; resumed to the last byte."""

import json
import math
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cutaway import load, spec
from cutaway.errors import ConfigError, FileFormatError, LimitError
from cutaway.generate.decode import pad_behind
from cutaway.models import build
from cutaway.spec.check import check_model
from cutaway.spec.presets import bert, vit
from cutaway.train import finite
from cutaway.train.bag_of_words import bag_of_words, words
from cutaway.train.classifying import Classifying, class_chances, encode_rows
from cutaway.train.loss import class_loss
from cutaway.train.signals import RunInterruptedError
from cutaway.train.tasks import make_task
from tests.unit.train.tiny import RUN, Stop, remains, train

GOOD, BAD = ["good", "fine", "great"], ["bad", "dull", "poor"]
FILLER = ["film", "story", "plot", "scene", "actor", "music"]
TOY = replace(RUN, batch=16, accumulate=1, length=16, steps=60, optimizer=spec.AdamW(rate=3e-3))


def nothing() -> None:
    """In place of looking at signals."""


def toy(count: int, seed: int) -> str:
    """Sentences of the kind `yes` where a good word is among them, `no` where a bad one is."""
    rng, lines = np.random.default_rng(seed), []
    for _ in range(count):
        label = int(rng.integers(2))
        said = [*rng.choice(FILLER, rng.integers(1, 6)), rng.choice((BAD, GOOD)[label])]
        lines.append(f"{('no', 'yes')[label]} {' '.join(rng.permutation(said))}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("toy")
    for name, count, seed in (("train", 600, 0), ("test", 200, 1)):
        (made / f"{name}.txt").write_text(toy(count, seed))
    return made


def data(folder: Path, **parts) -> spec.Labelled:
    return spec.Labelled(str(folder), "train.txt", **({"test": "test.txt", "vocab": 300} | parts))


def classifying(folder: Path, run: spec.Run = TOY, **parts) -> Classifying:
    made = make_task(data(folder, **parts), run)
    assert isinstance(made, Classifying)
    return made


def classifier(pool: str = "mean", **sizes) -> spec.Single:
    plan = bert(**({"layers": 1, "width": 16, "heads": 2, "length": 16} | sizes))
    return replace(plan, head=spec.Classify(5, pool))


def test_rows_are_padded_behind_between_end_tokens_and_cut(folder):
    task = classifying(folder)
    end, text = task.tokenizer.end, "good film, poor plot"
    (row,) = encode_rows(task.tokenizer, [text])
    assert row[0] == row[-1] == end and task.tokenizer.decode(row) == text
    (cut,) = encode_rows(task.tokenizer, [text], 5)
    assert cut.tolist() == [*row[:4], end]
    tokens, real = pad_behind([row, cut])
    assert tokens[0].tolist() == row.tolist() and tokens[1, :5].tolist() == cut.tolist()
    assert real.sum(1).tolist() == [len(row), 5] and bool(real[1, :5].all())
    with pytest.raises(LimitError, match=r"run\.length: 2 leaves no room"):
        encode_rows(task.tokenizer, [text], 2)
    for blank in ("", " \t"):
        with pytest.raises(LimitError, match="sentence 1 has no word"):
            encode_rows(task.tokenizer, [text, blank])


def test_how_many_sentences_are_cut_is_told(folder):
    assert classifying(folder).notices == ()
    (told,) = classifying(folder, replace(TOY, length=5)).notices
    cut = sum(
        len(row) > 5 for row in encode_rows(classifying(folder).tokenizer, classifying(folder).train.texts)
    )
    assert told.startswith(f"{cut} of ") and 0 < cut < 600


def test_folds_are_the_parts_and_copies_are_told(folder):
    task = classifying(folder, test="", folds=5, fold=2)
    texts = task.train.texts + task.validation.texts + task.test.texts
    copies = sum(texts.count(text) > 1 for text in texts)
    assert copies > 0 and len(texts) == 600
    assert task.notices == (f"{copies} sentences of the file have an equal one: it is in the same fold",)
    other = classifying(folder, test="", folds=5, fold=3)
    assert other.digest != task.digest and not set(other.test.texts) & set(task.test.texts)
    assert task.baselines()["bag_of_words_test_accuracy"] > 0.9


@pytest.mark.parametrize("pool", ["mean", "first"])
def test_padding_changes_nothing(pool, folder):
    task = classifying(folder)
    model = build(task.fitted(classifier(pool)), seed=1).double().eval()
    texts = task.validation.texts[:9]
    alone = torch.cat([class_chances(model, task.tokenizer, [text]) for text in texts])
    torch.testing.assert_close(class_chances(model, task.tokenizer, texts), alone, rtol=0, atol=1e-10)
    tokens, real = pad_behind(encode_rows(task.tokenizer, texts))
    unmasked = model(tokens).softmax(-1)
    assert not torch.allclose(unmasked, alone, rtol=0, atol=1e-10), "control: without the padding it does"
    assert not bool(real.all())


def test_every_sentence_is_read_once_an_epoch_in_an_order_of_its_own(folder):
    task = classifying(folder, replace(TOY, batch=10))
    count = len(task.rows)
    seen = [number for step in range(2 * count // 10) for number in task.example_ids(step)]
    first, second = seen[:count], seen[count : 2 * count]
    assert sorted(first) == list(range(count)) and first != second and first != sorted(first)
    assert len(set(second)) == len(second)
    assert classifying(folder, replace(TOY, batch=10)).example_ids(3) == task.example_ids(3)
    assert classifying(folder, replace(TOY, batch=10, seed=1)).example_ids(3) != task.example_ids(3)


def test_parts_are_the_sentences_and_their_classes(folder):
    task = classifying(folder, replace(TOY, batch=8, accumulate=2))
    numbers, parts = task.example_ids(3), task.parts(3)
    numbers.sort(key=lambda number: len(task.rows[number]))
    assert [part.scored for part in parts] == [4, 4] and task.labels == ("no", "yes")
    targets = torch.cat([part.targets for part in parts]).tolist()
    assert [task.labels[target] for target in targets] == [task.train.labels[number] for number in numbers]
    (read,), (real,) = parts[1].inputs, parts[1].paddings
    assert task.tokenizer.decode(read[0][real[0]].numpy()) == task.train.texts[numbers[4]]
    assert read.size(1) == int(real.sum(1).max()) < 16
    assert parts[0].inputs[0].size(1) <= int(real.sum(1).min()), "the short rows are padded to one another"
    compiled = classifying(folder, replace(TOY, batch=8, accumulate=2, compile="on")).parts(3)
    assert {part.inputs[0].size(1) for part in compiled} == {16}, "one shape, compiled once"


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_two_halves_is_that_of_the_whole(smoothing, folder):
    run = replace(TOY, smoothing=smoothing)
    whole, halves = classifying(folder, run), classifying(folder, replace(run, accumulate=2))
    model = build(whole.fitted(classifier()), seed=1).double().eval()
    (part,) = whole.parts(0)
    logits = model(*part.inputs, padding_BL=part.paddings[0])
    expected = F.cross_entropy(logits, part.targets, label_smoothing=smoothing).item()
    assert whole.loss(model, part, 16).item() == pytest.approx(expected, rel=1e-6)
    assert sum(halves.loss(model, p, 16).item() for p in halves.parts(0)) == pytest.approx(expected, rel=1e-6)
    assert class_loss(model, part, 16, 0.5).item() != pytest.approx(expected, rel=1e-3)


def test_figures_are_those_of_the_sentences_one_by_one(folder):
    task = classifying(folder)
    model = build(task.fitted(classifier()), seed=2).eval()
    nats, right = [], []
    for text, label in zip(task.validation.texts, task.validation.labels, strict=True):
        chances = class_chances(model, task.tokenizer, [text])[0]
        nats.append(-math.log(chances[task.labels.index(label)]))
        right.append(task.labels[int(chances.argmax())] == label)
    found = task.judge(model, nothing)
    assert found["validation"] == pytest.approx(sum(nats) / len(nats), rel=1e-5)
    assert found["accuracy"] == pytest.approx(sum(right) / len(right))
    assert set(found) == {"validation", "accuracy", "test", "test_accuracy"}
    assert task.glance(model, nothing)["validation_sample"] == pytest.approx(found["validation"], rel=1e-5)
    assert not any("test" in name for name in task.glance(model, nothing))


@pytest.mark.parametrize(
    "model",
    [bert(layers=1, width=16, heads=2), vit(layers=1, width=16, heads=2)],
    ids=["head", "images"],
)
def test_a_model_that_cannot_learn_from_it_is_refused(model, folder):
    with pytest.raises(ConfigError, match=r"^data Labelled trains a Single with an input of Tokens"):
        classifying(folder).fitted(model)


def test_the_first_position_must_see_the_others():
    for pool, sees in product(("first", "mean"), ("past", "all")):
        plan = classifier(pool)
        plan = replace(plan, stack=replace(plan.stack, sees=sees))
        refused = pool == "first" and sees == "past"
        with pytest.raises(ConfigError, match=r"head\.pool") if refused else nullcontext():
            check_model(plan)


def test_the_digest_knows_every_part(folder, tmp_path):
    digests = {classifying(folder).digest, classifying(folder, tokenizer="bytes").digest}
    for name in ("train", "test"):
        for part in ("train", "test"):
            (tmp_path / f"{part}.txt").write_text((folder / f"{part}.txt").read_text())
        (tmp_path / f"{name}.txt").write_text((folder / f"{name}.txt").read_text() + "no film\n")
        digests.add(classifying(tmp_path).digest)
    assert len(digests) == 4


def test_the_first_number_that_is_not_finite_is_found(folder):
    task = classifying(folder)
    model = build(task.fitted(classifier()))
    (batch,) = task.parts(0)
    assert finite.first_not_finite(model, batch) is None
    with torch.no_grad():
        model.blocks[0].ffn.up.bias[3] = math.nan
    assert finite.first_not_finite(model, batch) == "the value at blocks.0.ffn.up"
    with torch.no_grad():
        model.blocks[0].ffn.up.bias[3] = 0.0
        model.head.out.bias[0] = math.nan
    assert finite.first_not_finite(model, batch) == "the value at logits"


def recipe(folder: Path, **run) -> spec.Recipe:
    return spec.Recipe("toy", classifier(), data(folder), replace(TOY, **run))


def test_a_toy_is_learned_and_its_labels_are_kept(folder, tmp_path):
    out = train(recipe(folder, steps=120), tmp_path / "run")
    figures = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    (judged,) = [line for line in figures if "test_accuracy" in line]
    assert judged["accuracy"] > 0.95 and judged["test_accuracy"] > 0.95
    (sample,) = [line["sample"] for line in figures if "sample" in line]
    assert "(is yes)" in sample or "(is no)" in sample
    session = load(out)
    assert session.labels == ("no", "yes")
    assert session.classify("a great film")["yes"] > 0.9
    found = session.classify(["a great film", "music, dull scene"])
    assert [max(chances, key=chances.__getitem__) for chances in found] == ["yes", "no"]
    assert session.classify([]) == []
    with pytest.raises(ConfigError, match="data MaskedText"):
        session.fill("a [MASK] film")
    with pytest.raises(ConfigError, match="predicts the next token"):
        session.loss("a great film")
    with pytest.raises(ConfigError, match="sees all positions at once"):
        session.generate("a great film")
    facts = json.loads((out / "facts.json").read_text())
    for labels in (["no"], "no", [1, 2]):
        (out / "facts.json").write_text(json.dumps(facts | {"labels": labels}))
        with pytest.raises(FileFormatError, match=r"facts\.json: labels do not name 2 classes"):
            load(out)


@pytest.mark.parametrize("steps", [(5,), (1, 2, 9)], ids=["once", "3 times"])
def test_an_interrupted_run_is_the_same_to_the_last_byte(steps, folder, tmp_path):
    plan = replace(
        recipe(folder, steps=12, evaluate=5, accumulate=2, smoothing=0.1), model=classifier("first")
    )
    whole = train(plan, tmp_path / "whole")
    for number, step in enumerate(steps):
        with pytest.raises(RunInterruptedError):
            train(plan, tmp_path / "run", resume=number > 0, say=Stop(step))
    assert remains(train(plan, tmp_path / "run", resume=True)) == remains(whole)
    other = replace(plan, run=replace(plan.run, seed=1))
    assert remains(train(other, tmp_path / "other"))["weights"] != remains(whole)["weights"]


def test_a_bag_of_words_learns_the_toy_and_nothing_from_shuffled_labels(folder):
    task = classifying(folder)
    found = bag_of_words(task.train, task.validation, task.test)
    assert found["bag_of_words_accuracy"] > 0.97 and found["bag_of_words_test_accuracy"] > 0.97
    labels = np.random.default_rng(0).permutation(task.train.labels).tolist()
    lost = bag_of_words(replace(task.train, labels=tuple(labels)), task.validation, task.test)
    assert abs(lost["bag_of_words_test_accuracy"] - 0.5) < 0.25
    assert words("It's GOOD, good -- it's") == {"it's", "good", ",", "--"}


def test_what_cannot_be_read_or_says_nothing_is_told_before_training(folder, tmp_path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text((folder / f"{name}.txt").read_text())
    known = classifying(tmp_path, tokenizer="characters").tokenizer
    (tmp_path / "test.txt").write_text("yes a gŕeat film\n")
    assert classifying(tmp_path, tokenizer="characters").judge  # its letters are those of all parts
    with pytest.raises(LimitError, match="sentence 0: character 'ŕ'"):
        Classifying(data(tmp_path), TOY, known)
    with pytest.raises(LimitError, match="sentence 1 has no word"):
        encode_rows(known, ["film", ""])


def test_a_bag_without_a_known_word_is_empty(folder):
    task = classifying(folder)
    strange = replace(task.test.part([0]), texts=("xyzzy",))
    assert bag_of_words(task.train, task.validation, strange)["bag_of_words_test_accuracy"] in (0.0, 1.0)
