"""What the decoder of a pair begins to write with: one rule for generating, studying and the report."""

from cutaway.data.record import START
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import LimitError


def begin_token(tokenizer: Tokenizer) -> int:
    """The id that every target of an encoder-decoder begins with; LimitError where the tokenizer has none."""
    if tokenizer.start is None:
        raise LimitError(
            f"this tokenizer has no {START}, with which an encoder-decoder begins to write: add that token"
        )
    return tokenizer.start
