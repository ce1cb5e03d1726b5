"""What the decoder of a pair begins to write with: one rule for generating, studying and the report."""

from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import LimitError

START = "<|start|>"


def begin_token(tokenizer: Tokenizer) -> int:
    """The id that every target of an encoder-decoder begins with; LimitError where the tokenizer has none."""
    begin = tokenizer.inner.token_to_id(START)
    if begin is None:
        raise LimitError(
            f"this tokenizer has no {START}, with which an encoder-decoder begins to write: add that token"
        )
    return begin
