"""Pairs of sentences: what a line is, what is refused, and batches of every pair once within the budget."""

import gzip
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway import spec
from cutaway.data.parallel import Batches, Sentences, collate, read_parallel, select
from cutaway.errors import ConfigError, FileFormatError, InputMissingError, LimitError

MULTI30K = Path(__file__).parents[3] / "../shared/data/multi30k"
needs_multi30k = pytest.mark.skipif(
    not MULTI30K.exists(), reason="needs ../shared/data/multi30k, which is absent"
)
NOT_LINE_ENDS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r"


def written(folder: Path, **files: str | bytes) -> spec.Parallel:
    """A plan over files named part_language."""
    for name, data in files.items():
        path = folder / name.replace("_", ".")
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return spec.Parallel(str(folder))


def test_the_same_line_of_both_files_is_a_pair(tmp_path):
    plan = written(tmp_path, train_de="eins\nzwei\n", train_en="one\ntwo\n")
    assert read_parallel(plan, "train") == Sentences(("eins", "zwei"), ("one", "two"), "train.de-en")
    back = replace(plan, source="en", target="de")
    assert read_parallel(back, "train") == Sentences(("one", "two"), ("eins", "zwei"), "train.en-de")


def test_packed_files_and_names_with_points(tmp_path):
    (tmp_path / "train.lc.norm.tok.de.gz").write_bytes(gzip.compress(b"eins\n"))
    (tmp_path / "train.lc.norm.tok.en").write_text("one\n")
    read = read_parallel(spec.Parallel(str(tmp_path)), "train.lc.norm.tok")
    assert (read.source, read.target) == (("eins",), ("one",))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "last"])
def test_only_newlines_end_a_line(tmp_path, end, last):
    """Python's own idea of lines would cut here, and on one side only."""
    lines = [f"a{mark}b" for mark in NOT_LINE_ENDS]
    assert all(len(line.splitlines()) == 2 for line in lines)
    plan = written(
        tmp_path,
        train_de="".join(line + end for line in lines) + last,
        train_en="".join(f"{number}{end}" for number, _ in enumerate(lines)) + last,
    )
    read = read_parallel(plan, "train")
    assert read.source == (*lines, *([last] if last else []))
    assert read.target == (*map(str, range(len(lines))), *([last] if last else []))


def test_empty_lines_are_lines(tmp_path):
    plan = written(tmp_path, val_de="\neins\n\n", val_en="zero\n\nlast\n")
    read = read_parallel(plan, "val")
    assert (read.source, read.target) == (("", "eins", ""), ("zero", "", "last"))


def test_lower_case_is_asked_for(tmp_path):
    plan = written(tmp_path, train_de="Ein ÄPFEL\n", train_en="AN Apple\n")
    assert read_parallel(plan, "train").source == ("Ein ÄPFEL",)
    low = read_parallel(replace(plan, lower=True), "train")
    assert (low.source, low.target) == (("ein äpfel",), ("an apple",))


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({}, InputMissingError, r"train\.de: no such file, nor with \.gz; the folder has no files"),
        ({"train_de": "a"}, InputMissingError, r"train\.en: no such file, .*did you mean train\.de\?"),
        (
            {"train_de": "a\nb\nc\n", "train_en": "a\nb\n"},
            FileFormatError,
            r"train\.en: 2 lines, but train\.de has 3: line 3 has no translation",
        ),
        (
            {"train_de": "a\n", "train_en": "a\n\n"},
            FileFormatError,
            r"train\.de: 1 lines, but train\.en has 2: line 2",
        ),
        (
            {"train_de": b"good\nb\xe4d\n", "train_en": "a\nb\n"},
            FileFormatError,
            r"train\.de, byte 6: line 2",
        ),
        ({"train_de": "", "train_en": "a\n"}, InputMissingError, r"train\.de: holds no text"),
        ({"train_de": "a\n", "train_en": "\n"}, InputMissingError, r"train\.en: holds no text"),
    ],
)
def test_bad_files_are_refused(tmp_path, files, error, message):
    with pytest.raises(error, match=message) as caught:
        read_parallel(written(tmp_path, **files), "train")
    assert "\n" not in str(caught.value)


def test_bad_plans_are_refused(tmp_path):
    with pytest.raises(InputMissingError, match=r"nowhere: no such folder; check data\.folder"):
        read_parallel(spec.Parallel(str(tmp_path / "nowhere")), "train")
    with pytest.raises(ConfigError, match=r"data\.target: 'de' is data\.source too"):
        read_parallel(spec.Parallel(str(tmp_path), source="de", target="de"), "train")


def ids(*lengths: int) -> list[np.ndarray]:
    """Sides that the model reads so many tokens of, the end token among them."""
    return [np.full(length - 1, 7) for length in lengths]


def batches_of(source, target, tokens: int, seed: int) -> Batches:
    return Batches(ids(*source), ids(*target), tokens, seed, np.arange(len(source)))


def test_pairs_that_training_leaves_out_are_counted():
    text = Sentences(("a", "", "b", "c", " "), ("a", "b", "\u3000", "c", ""), "train")
    sides = ids(2, 1, 3, 9, 1), ids(9, 9, 1, 2, 1)
    picked = select(text, *sides, 8)
    assert picked.rows.tolist() == [] and (picked.empty, picked.long) == (3, 2)
    picked = select(text, *sides, 9)
    assert picked.rows.tolist() == [0, 3] and (picked.empty, picked.long) == (3, 0)
    batches = Batches(*sides, 9, 0, picked.rows)
    assert sorted(row for step in range(2) for row in batches.batch_at(step)) == [0, 3]


lengths = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=200)
seeds = st.integers(0, 2**64 - 1)


def cells(rows: np.ndarray, side) -> int:
    return len(rows) * max(side[row] for row in rows)


@given(pairs=lengths, seed=seeds, spare=st.integers(0, 200), epoch=st.integers(0, 10**6))
def test_every_pair_once_an_epoch_and_no_batch_over_the_budget(pairs, seed, spare, epoch):
    source, target = zip(*pairs, strict=True)
    tokens = max(map(max, pairs)) + spare
    batches = batches_of(source, target, tokens, seed)
    first = epoch * batches.per_epoch
    found = [batches.batch_at(first + step) for step in range(batches.per_epoch)]
    assert sorted(np.concatenate(found).tolist()) == list(range(len(pairs)))
    assert all(len(rows) > 0 and max(cells(rows, source), cells(rows, target)) <= tokens for rows in found)
    real, read = sum(source) + sum(target), sum(cells(r, source) + cells(r, target) for r in found)
    assert batches.padding == pytest.approx(1 - real / read, abs=1e-12)


def test_batches_follow_from_seed_and_step_alone():
    draw = np.random.default_rng(0)
    source, target = draw.integers(1, 30, (2, 500)).tolist()
    first, again, other = (batches_of(source, target, 200, seed) for seed in (1, 1, 2))
    steps = [7, 0, 10**9, 3 * first.per_epoch + 2]
    told = [first.batch_at(step).tolist() for step in steps]
    assert told == [again.batch_at(step).tolist() for step in steps]
    assert told != [other.batch_at(step).tolist() for step in steps]


def test_the_order_of_batches_changes_but_not_what_is_in_them():
    source = np.random.default_rng(0).integers(1, 30, 500).tolist()
    batches = batches_of(source, source, 200, 5)
    epochs = [
        [tuple(batches.batch_at(epoch * batches.per_epoch + step)) for step in range(batches.per_epoch)]
        for epoch in range(3)
    ]
    assert len({tuple(order) for order in epochs}) == 3 and len({frozenset(order) for order in epochs}) == 1
    assert [len(rows) for rows in epochs[0]] != sorted(len(rows) for rows in epochs[0])  # not by length


def test_pairs_of_equal_length_meet_by_chance():
    """Over many seeds pair 0 shares its batch with each of 99 others equally often: 9 of 99 at a time."""
    seen: Counter[int] = Counter()
    for seed in range(400):
        batches = batches_of([10] * 100, [10] * 100, 100, seed)
        together = next(r for r in map(batches.batch_at, range(batches.per_epoch)) if 0 in r)
        seen.update(together.tolist())
    others = np.array([seen[pair] for pair in range(1, 100)])
    assert others.sum() == 400 * 9 and others.min() > 15 and others.max() < 65


@pytest.mark.parametrize(("source", "target"), [([3, 90, 4], [3, 3, 3]), ([3, 3, 4], [3, 90, 3])])
def test_a_pair_over_the_budget_is_named(source, target):
    with pytest.raises(LimitError, match=r"line 2: 90 tokens on one side, .* at most 64; raise run\.batch"):
        batches_of(source, target, 64, 0)
    assert batches_of(source, target, 90, 0).per_epoch == 2


def test_no_pair_is_an_error():
    with pytest.raises(LimitError, match="no pair to train on"):
        batches_of([], [], 64, 0)


def test_a_batch_is_padded_on_the_right_with_start_and_end():
    sources = [np.array([5, 6]), np.array([], np.int64), np.array([7])]
    targets = [np.array([8]), np.array([9, 9, 9]), np.array([5])]
    pairs = collate(sources, targets, [1, 0], pad=0, start=1, end=2)
    assert pairs.source_BM.tolist() == [[2, 0, 0], [5, 6, 2]]
    assert pairs.target_BL.tolist() == [[1, 9, 9, 9, 2], [1, 8, 2, 0, 0]]
    assert pairs.source_lengths_B.tolist() == [1, 3] and pairs.target_lengths_B.tolist() == [5, 3]
    assert {array.dtype for array in vars(pairs).values()} == {np.dtype(np.int64)}


@needs_multi30k
def test_multi30k_is_read_whole():
    plan = spec.Parallel(str(MULTI30K / "raw"))
    counts = {part: len(read_parallel(plan, part).source) for part in ("train", "val", "test_2016_flickr")}
    assert counts == {"train": 29_000, "val": 1_014, "test_2016_flickr": 1_000}


@needs_multi30k
def test_multi30k_is_cut_into_batches_with_little_padding():
    text = read_parallel(spec.Parallel(str(MULTI30K / "bpe_en-de")), "train")
    sides = [[len(line.split()) + 1 for line in side] for side in (text.source, text.target)]
    batches = batches_of(*sides, tokens=4096, seed=0)
    assert batches.padding < 0.06
    in_order = [cells(np.arange(first, first + 150), sides[0]) for first in range(0, 28_950, 150)]
    assert 1 - sum(sides[0][:28_950]) / sum(in_order) > 0.4  # negative control: what file order would pad
