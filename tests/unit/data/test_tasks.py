"""The string task: right answers, unseen means unseen, every example a function of (seed, step)."""

import numpy as np
import pytest

from cutaway.data.tasks import END_ID, PAD_ID, START_ID, StringTask
from cutaway.errors import ConfigError


def texts(task: StringTask, pairs) -> list[tuple[str, str]]:
    """The pairs as text, after checking start, end, padding and lengths of each row."""
    tokenizer, found = task.tokenizer(), []
    for source, source_length, target, target_length in zip(
        pairs.source_BM, pairs.source_lengths_B, pairs.target_BL, pairs.target_lengths_B, strict=True
    ):
        assert target[0] == START_ID and target[target_length - 1] == END_ID
        assert (source[source_length:] == PAD_ID).all() and (target[target_length:] == PAD_ID).all()
        assert (source[:source_length] != PAD_ID).all() and (target[:target_length] != PAD_ID).all()
        found.append(
            (tokenizer.decode(source[:source_length]), tokenizer.decode(target[1 : target_length - 1]))
        )
    return found


@pytest.mark.parametrize("stream", ["batch_at", "unseen_strings", "unseen_lengths"])
def test_every_answer_is_right(stream):
    task = StringTask(seed=5)
    seen = set()
    for source, target in texts(task, getattr(task, stream)(3, 400)):
        seen.add(source[0])
        assert target == (source[:0:-1] if source[0] == "R" else "".join(sorted(source[1:])))
    assert seen == {"R", "S"}


def test_unseen_strings_and_lengths_are_never_trained_on():
    """On a task so small that training sees almost every string there is."""
    task = StringTask(seed=1, letters=3, shortest=1, longest=5)
    trained = {source[1:] for step in range(40) for source, _ in texts(task, task.batch_at(step, 100))}
    strings = {source[1:] for step in range(5) for source, _ in texts(task, task.unseen_strings(step, 100))}
    lengths = {source[1:] for source, _ in texts(task, task.unseen_lengths(0, 100))}
    assert len(trained) > 290 and len(strings) > 15
    assert not trained & strings and not trained & lengths and not strings & lengths
    assert {len(string) for string in trained} == {1, 4, 5} and {len(string) for string in lengths} == {2, 3}
    # what is held out does not depend on the seed
    other = StringTask(seed=2, letters=3, shortest=1, longest=5)
    assert (
        not {source[1:] for step in range(40) for source, _ in texts(other, other.batch_at(step, 100))}
        & strings
    )


def test_examples_depend_on_seed_step_and_row_only():
    task = StringTask(seed=9)
    whole = task.batch_at(7, 12)
    assert np.array_equal(whole.source_BM, StringTask(seed=9).batch_at(7, 12).source_BM)
    parts = [task.batch_at(7, 12, slice(start, start + 4)) for start in (0, 4, 8)]
    assert np.array_equal(np.concatenate([part.target_BL for part in parts]), whole.target_BL)
    assert np.array_equal(task.batch_at(14, 6).source_BM, whole.source_BM[:6])
    for other in (task.batch_at(8, 12), StringTask(seed=10).batch_at(7, 12), task.unseen_strings(7, 12)):
        assert not np.array_equal(other.source_BM, whole.source_BM)


def test_shapes_never_change_and_lengths_are_evenly_drawn():
    task = StringTask(seed=0)
    pairs = task.batch_at(0, 4_000)
    assert pairs.source_BM.shape == (4_000, 21) and pairs.target_BL.shape == (4_000, 22)
    assert pairs.source_BM.dtype == pairs.target_BL.dtype == np.int64
    counts = np.bincount(pairs.source_lengths_B - 1, minlength=21)
    assert set(np.flatnonzero(counts)) == set(task.train_lengths)
    assert counts[list(task.train_lengths)].min() > 150
    assert pairs.source_BM.max() < task.vocab == task.tokenizer().vocab


def test_what_people_type_has_the_same_ids():
    task = StringTask(seed=0, letters=5)
    assert task.tokenizer().encode("Rabe").tolist() == [3, 5, 6, 9] and task.tokenizer().end == END_ID


@pytest.mark.parametrize(
    ("shortest", "longest", "held"),
    [
        (1, 20, (7, 12, 17)),
        (1, 10, (4, 6, 9)),
        (1, 40, (13, 23, 33)),
        (1, 3, (2,)),
        (5, 7, (6,)),
        (1, 4, (2, 3)),
    ],
)
def test_held_out_lengths_lie_between_the_shortest_and_the_longest(shortest, longest, held):
    task = StringTask(0, shortest=shortest, longest=longest)
    assert task.held_out_lengths == held
    assert {shortest, longest} <= set(task.train_lengths) and not set(held) & set(task.train_lengths)
    assert set((task.unseen_lengths(0, 200).source_lengths_B - 1).tolist()) == set(held)


def test_the_name_of_the_task_is_what_older_runs_have_written():
    """It is the digest of a run's data, by which a run that goes on knows its examples."""
    assert repr(StringTask(3)) == (
        "StringTask(seed=3, letters=26, shortest=1, longest=20, held_out_lengths=(7, 12, 17))"
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"letters": 1}, "letters 1"),
        ({"letters": 27}, "letters 27"),
        ({"shortest": 5, "longest": 4}, "shortest 5, longest 4"),
        ({"shortest": 2, "longest": 2}, "data.longest: 2 leaves no length .* give at least 4"),
        ({"longest": 2}, "data.longest: 2 leaves no length .* give at least 3"),
    ],
)
def test_impossible_tasks_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        StringTask(seed=0, **wrong)
