"""How near a translation is to a reference: sacrebleu's BLEU (Papineni et al. 2002) and chrF (Popović 2015).

detokenised: running text, cut into words by sacrebleu itself (13a), so that figures compare (Post 2018).
tokenised: text that is cut already, split at its spaces and not smoothed, as fairseq prints BLEU4.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from cutaway.errors import ConfigError, LimitError, MissingExtraError

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.significance import Result

Form = Literal["detokenised", "tokenised"]
BOOTSTRAP_SAMPLES = 1_000
LENGTHS = (5, 10, 15, 20, 25, 30, 40, 50)  # edges of buckets, in words of a source


@dataclass(frozen=True)
class Bleu:
    """BLEU, and what it is made of: precisions of one to four words in percent, brevity, lengths in words."""

    score: float
    precisions: tuple[float, ...]
    brevity: float
    system_length: int
    reference_length: int
    signature: str

    def line(self) -> str:
        """The score and what it is made of, in the form in which fairseq prints them."""
        precisions = "/".join(f"{precision:.1f}" for precision in self.precisions)
        ratio = self.system_length / max(1, self.reference_length)
        return (
            f"BLEU4 = {self.score:.2f}, {precisions} (BP={self.brevity:.3f}, ratio={ratio:.3f}, "
            f"syslen={self.system_length}, reflen={self.reference_length})"
        )


@dataclass(frozen=True)
class Chrf:
    """The F-score of characters in percent, recall counted twice."""

    score: float
    signature: str


@dataclass(frozen=True)
class LengthRow:
    """How many sentences have a source of this length, and their BLEU, None where there are none."""

    bucket: str
    count: int
    bleu: Bleu | None


@dataclass(frozen=True)
class Estimate:
    """A system's score, and the mean and half the width of the middle 95 % of its scores over the samples."""

    score: float
    mean: float
    margin: float


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same sentences, and how likely so large a difference is if neither is better.

    Of equal scores that is certain; the library would say 0.001.
    """

    baseline: Estimate
    system: Estimate
    p_value: float
    signature: str


def check_installed() -> None:
    """Raises MissingExtraError without sacrebleu: asked before a training, not after it."""
    try:
        import sacrebleu  # noqa: F401
    except ImportError:
        raise MissingExtraError("eval") from None


def score(hypotheses: Sequence[str], references: Sequence[str], form: Form, lower: bool = False) -> Bleu:
    """BLEU of text in either form; LimitError for unequal counts, or none."""
    check_installed()
    _check_counts(references, hypotheses=hypotheses)
    metric = _metric(form, lower)
    found = metric.corpus_score(hypotheses, [references])
    return Bleu(
        found.score,
        tuple(found.precisions),
        found.bp,
        found.sys_len,
        found.ref_len,
        str(metric.get_signature()),
    )


def detokenised(hypotheses: Sequence[str], references: Sequence[str], lower: bool = False) -> Bleu:
    """BLEU of running text, as sacrebleu computes it; LimitError for unequal counts, or none."""
    return score(hypotheses, references, "detokenised", lower)


def tokenised(hypotheses: Sequence[str], references: Sequence[str]) -> Bleu:
    """BLEU of text cut into words already, as fairseq computes it; LimitError for unequal counts, or none."""
    return score(hypotheses, references, "tokenised")


def chrf(hypotheses: Sequence[str], references: Sequence[str], lower: bool = False) -> Chrf:
    """The F-score of one to six characters; LimitError for unequal counts, or none."""
    check_installed()
    from sacrebleu.metrics.chrf import CHRF

    _check_counts(references, hypotheses=hypotheses)
    metric = CHRF(lowercase=lower)
    score = metric.corpus_score(hypotheses, [references]).score
    return Chrf(score, str(metric.get_signature()))


def by_length(
    hypotheses: Sequence[str],
    references: Sequence[str],
    sources: Sequence[str],
    edges: Sequence[int],
    form: Form = "detokenised",
    lower: bool = False,
) -> list[LengthRow]:
    """BLEU in buckets of the words of the source: up to the first of `edges`, then above each up to the next.

    Raises ConfigError where edges do not rise, LimitError for unequal counts, or none.
    """
    if not edges or list(edges) != sorted(set(edges)):
        raise ConfigError(f"edges {list(edges)}: must rise, for example 10 20 30")
    _check_counts(references, hypotheses=hypotheses, sources=sources)
    members: list[list[int]] = [[] for _ in range(len(edges) + 1)]
    for place, source in enumerate(sources):
        members[bisect_left(edges, len(source.split()))].append(place)
    between = (f"{low + 1} to {high}" for low, high in pairwise(edges))
    buckets = (f"up to {edges[0]}", *between, f"above {edges[-1]}")
    return [
        LengthRow(
            bucket,
            len(places),
            score([hypotheses[i] for i in places], [references[i] for i in places], form, lower)
            if places
            else None,
        )
        for bucket, places in zip(buckets, members, strict=True)
    ]


def compare(
    baseline: Sequence[str],
    system: Sequence[str],
    references: Sequence[str],
    form: Form = "detokenised",
    lower: bool = False,
) -> Comparison:
    """The paired bootstrap test (Koehn 2004), sacrebleu's, over 1,000 samples with sacrebleu's own seed.

    Raises LimitError for unequal counts, or none.
    """
    check_installed()
    from sacrebleu.significance import PairedTest

    _check_counts(references, baseline=baseline, system=system)
    test = PairedTest(
        [("baseline", baseline), ("system", system)],
        {"BLEU": _metric(form, lower)},
        [references],
        test_type="bs",
        n_samples=BOOTSTRAP_SAMPLES,
    )
    signatures, results = test()
    first, second = results["BLEU"]
    assert not isinstance(first, str) and not isinstance(second, str) and second.p_value is not None
    p_value = 1.0 if first.score == second.score else second.p_value
    return Comparison(_estimate(first), _estimate(second), p_value, str(signatures["BLEU"]))


def _metric(form: Form, lower: bool) -> "BLEU":
    from sacrebleu.metrics.bleu import BLEU

    match form:
        case "detokenised":
            return BLEU(lowercase=lower)
        case "tokenised":
            return BLEU(lowercase=lower, tokenize="none", smooth_method="none", force=True)


def _estimate(result: "Result") -> Estimate:
    assert result.mean is not None and result.ci is not None
    return Estimate(float(result.score), float(result.mean), float(result.ci))


def _check_counts(references: Sequence[str], **others: Sequence[str]) -> None:
    """The library would score as many as the shorter has, without a word."""
    for name, lines in others.items():
        if len(lines) != len(references):
            raise LimitError(
                f"{len(lines)} {name}, but {len(references)} references: give one reference for each sentence"
            )
    if not references:
        raise LimitError("no sentence to score: give at least one hypothesis and its reference")
