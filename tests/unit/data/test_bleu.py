"""BLEU against a definition from the paper, a case computed by hand, and sacrebleu's own command line."""

import builtins
import json
import math
import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.data import bleu
from cutaway.errors import ConfigError, LimitError, MissingExtraError

pytest.importorskip("sacrebleu", reason="needs cutaway[eval]")


def grams(words: list[str], size: int) -> Counter:
    return Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))


def papineni(hypotheses: list[str], references: list[str]) -> tuple[float, list[float], float]:
    """BLEU as sections 2.1 to 2.3 of Papineni et al. (2002) define it, with one reference."""
    precisions = []
    for size in range(1, 5):
        right = total = 0
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            found = grams(hypothesis.split(), size)
            right += sum((found & grams(reference.split(), size)).values())
            total += sum(found.values())
        precisions.append(right / total if total else 0.0)
    c, r = (sum(len(line.split()) for line in lines) for lines in (hypotheses, references))
    brevity = 1.0 if c >= r else math.exp(1 - r / c) if c else 0.0
    if not all(precisions):
        return 0.0, [100 * p for p in precisions], brevity
    score = brevity * math.exp(sum(map(math.log, precisions)) / 4)
    return 100 * score, [100 * p for p in precisions], brevity


lines = st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join)


@given(pairs=st.lists(st.tuples(lines, lines), min_size=1, max_size=8))
def test_tokenised_is_what_the_paper_defines(pairs):
    hypotheses, references = map(list, zip(*pairs, strict=True))
    found = bleu.tokenised(hypotheses, references)
    score, precisions, brevity = papineni(hypotheses, references)
    assert found.score == pytest.approx(score, abs=1e-9)
    assert found.precisions == pytest.approx(precisions) and found.brevity == pytest.approx(brevity)


def test_a_case_by_hand():
    """6 of 7 words, 4 of 6 pairs, 2 of 5 triples, 1 of 4 quadruples; 7 words for 8."""
    found = bleu.tokenised(["the cat sat on a mat ."], ["the cat sat on the green mat ."])
    precisions = [6 / 7, 4 / 6, 2 / 5, 1 / 4]
    score = 100 * math.exp(1 - 8 / 7) * math.prod(precisions) ** 0.25
    assert found.precisions == pytest.approx([100 * p for p in precisions])
    assert found.score == pytest.approx(score)
    line = f"BLEU4 = {score:.2f}, 85.7/66.7/40.0/25.0 (BP=0.867, ratio=0.875, syslen=7, reflen=8)"
    assert found.line() == line


def test_no_fault_is_a_hundred_and_no_word_is_nothing():
    text = ["a man in a hat .", "two men ride bikes ."]
    assert bleu.tokenised(text, text).score == pytest.approx(100)
    assert bleu.tokenised(["x y", "z"], text).score == 0 and bleu.tokenised(["", ""], text).score == 0
    assert bleu.tokenised(["", ""], text).line().startswith("BLEU4 = 0.00, 0.0/0.0/0.0/0.0 (BP=0.000")


SYSTEM = ["A man wears a hat.", "Two dogs run (fast)!", "It's 3.5 meters; I think.", "The end", "red"]
REFERENCE = ["A man wears a red hat.", "Two dogs run fast!", "It's 3.5 metres, I think.", "the end", "Red"]


@pytest.mark.parametrize("lower", [False, True])
def test_detokenised_is_what_sacrebleu_prints(tmp_path, lower):
    for name, text in (("system", SYSTEM), ("reference", REFERENCE)):
        (tmp_path / name).write_text("\n".join(text) + "\n")
    command = [
        sys.executable,
        "-m",
        "sacrebleu",
        "reference",
        "-i",
        "system",
        "-m",
        "bleu",
        "chrf",
        "-w",
        "8",
    ]
    done = subprocess.run(
        command + ["-lc", "--chrf-lowercase"] * lower,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    printed = {entry["name"]: entry for entry in json.loads(done.stdout)}
    found = bleu.detokenised(SYSTEM, REFERENCE, lower=lower)
    assert found.score == pytest.approx(printed["BLEU"]["score"], abs=1e-7)
    assert found.signature == printed["BLEU"]["signature"]
    assert f"case:{'lc' if lower else 'mixed'}" in found.signature and "tok:13a" in found.signature
    assert bleu.chrf(SYSTEM, REFERENCE).score != bleu.chrf(SYSTEM, REFERENCE, lower=True).score
    assert bleu.chrf(SYSTEM, REFERENCE, lower).score == pytest.approx(printed["chrF2"]["score"], abs=1e-7)
    assert bleu.chrf(SYSTEM, REFERENCE, lower).signature == printed["chrF2"]["signature"]


def test_the_three_scores_differ():
    """Negative control: case, cutting and smoothing each change the figure."""
    scores = {
        bleu.detokenised(SYSTEM, REFERENCE).score,
        bleu.detokenised(SYSTEM, REFERENCE, lower=True).score,
        bleu.tokenised(SYSTEM, REFERENCE).score,
    }
    assert len(scores) == 3


def test_by_length_of_the_source():
    sources = ["a " * words for words in (0, 3, 4, 7, 8)]
    rows = bleu.by_length(SYSTEM, REFERENCE, sources, (3, 5, 7, 20), lower=True)
    assert [(row.bucket, row.count) for row in rows] == [
        ("up to 3", 2),
        ("4 to 5", 1),
        ("6 to 7", 1),
        ("8 to 20", 1),
        ("above 20", 0),
    ]
    assert rows[0].bleu == bleu.detokenised(SYSTEM[:2], REFERENCE[:2], lower=True) and rows[4].bleu is None
    tokenised = bleu.by_length(SYSTEM, REFERENCE, sources, (7,), "tokenised")
    assert tokenised[0].bleu == bleu.tokenised(SYSTEM[:4], REFERENCE[:4])


@pytest.mark.parametrize("edges", [(), (5, 3), (3, 3)])
def test_edges_rise(edges):
    with pytest.raises(ConfigError, match="must rise"):
        bleu.by_length(SYSTEM, REFERENCE, SYSTEM, edges)


def worsened(text: list[str], share: float, seed: int = 0) -> list[str]:
    """Some words left out, the same ones each time."""
    draw = random.Random(seed)
    return [" ".join(word for word in line.split() if draw.random() > share) for line in text]


def test_a_paired_bootstrap_tells_better_from_worse():
    draw = random.Random(1)
    references = [" ".join(draw.choices("abcdefgh", k=draw.randint(5, 15))) for _ in range(100)]
    good, bad = worsened(references, 0.05), worsened(references, 0.3)
    found = bleu.compare(bad, good, references, "tokenised")
    assert found.p_value < 0.01 and found.system.score > found.baseline.score
    assert found.system.score == pytest.approx(bleu.tokenised(good, references).score)
    assert abs(found.baseline.mean - found.baseline.score) < found.baseline.margin
    assert "bs:1000" in found.signature and "seed:12345" in found.signature
    assert found == bleu.compare(bad, good, references, "tokenised")
    also_bad = worsened(references, 0.3, seed=3)  # negative control
    assert bleu.compare(bad, also_bad, references, "tokenised").p_value > 0.1
    assert bleu.compare(good, good, references, "tokenised").p_value == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bleu.tokenised(["a", "b"], ["a"]), "2 hypotheses, but 1 references"),
        (lambda: bleu.detokenised([], ["a"]), "0 hypotheses, but 1 references"),
        (lambda: bleu.chrf(["a"], ["a", "b"]), "1 hypotheses, but 2 references"),
        (lambda: bleu.by_length(["a"], ["a"], ["a", "b"], (5,)), "2 sources, but 1 references"),
        (lambda: bleu.compare(["a"], ["a", "b"], ["a"]), "2 system, but 1 references"),
        (lambda: bleu.tokenised([], []), "no sentence to score"),
    ],
)
def test_unequal_counts_are_refused(call, message):
    with pytest.raises(LimitError, match=message):
        call()


def test_without_sacrebleu_the_extra_is_named(monkeypatch):
    whole = builtins.__import__

    def without(name, *rest, **named):
        if name.startswith("sacrebleu"):
            raise ImportError(name)
        return whole(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    for call in (bleu.check_installed, lambda: bleu.tokenised(["a"], ["a"])):
        with pytest.raises(MissingExtraError, match=r'pip install "cutaway\[eval\]"'):
            call()
