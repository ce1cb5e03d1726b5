"""What `cutaway translate --reference` says: BLEU in the form of what a tokenizer writes, and its parts.

Text that came cut into words is scored by those, its `@@` joined, other text by sacrebleu's; where lower case
was learned, in lower case.
"""

from collections.abc import Sequence

from cutaway.data import bleu
from cutaway.data.pairing import Lowering
from cutaway.data.spelling import join_marks
from cutaway.data.tokenizer import Tokenizer


def scores(
    written: Sequence[str],
    references: Sequence[str],
    tokenizer: Tokenizer,
    sources: Sequence[str] | None = None,
) -> list[str]:
    """In lines: BLEU with sacrebleu's signature, the same as fairseq prints it, and where there are `sources`
    a table of it by their words. Raises LimitError for unequal counts, or none.
    """
    form: bleu.Form = "tokenised" if tokenizer.kind == "marked" else "detokenised"
    lower = isinstance(tokenizer, Lowering)
    if form == "tokenised":
        references = [join_marks(line) for line in references]
    found = bleu.score(written, references, form, lower)
    lines = [f"BLEU {found.score:.2f}  {found.signature}", found.line()]
    if sources is not None:
        words = [join_marks(line) for line in sources] if form == "tokenised" else sources
        lines += table(bleu.by_length(written, references, words, bleu.LENGTHS, form, lower))
    return lines


def table(rows: Sequence[bleu.LengthRow]) -> list[str]:
    """BLEU by the words of the source, a line for each bucket; a dash where there is no sentence."""
    cells = [("words", "sentences", "BLEU")]
    cells += [(row.bucket, f"{row.count:,}", f"{row.bleu.score:.2f}" if row.bleu else "–") for row in rows]
    width = max(len(bucket) for bucket, _, _ in cells)
    return [f"{bucket:{width}}  {count:>9}  {score:>6}" for bucket, count, score in cells]
