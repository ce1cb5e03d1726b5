"""From tokens to text, piece by piece: every piece is whole characters, and all of them together are the
full text.

A token may end in the middle of a character. Its bytes wait for the rest; bytes that can no longer become a
character are handed out as U+FFFD at once, so at most three bytes ever wait.
"""

from codecs import getincrementaldecoder
from collections.abc import Sequence

from cutaway.data.tokenizer import Tokenizer
from cutaway.generate.stop import StopStrings

Utf8 = getincrementaldecoder("utf-8")


class TextStream:
    """The text of tokens as they come, up to the first stop string, behind the text `after`: some
    vocabularies drop the space in front of a token that begins a text.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = (), after: str = " "):
        self.tokenizer, self.stops = tokenizer, StopStrings(stops)
        self._characters = Utf8("replace")
        self._bytes = tokenizer.token_bytes if after else tokenizer.first_bytes

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the text."""
        return self.stops.found is not None

    def push(self, token: int) -> str:
        """Takes a token; returns the text that is certain now, often none."""
        data, self._bytes = self._bytes(token), self.tokenizer.token_bytes
        return self.stops.push(self._characters.decode(data))

    def finish(self) -> str:
        """No more tokens come: returns the rest, an unfinished character as U+FFFD."""
        return self.stops.push(self._characters.decode(b"", final=True)) + self.stops.finish()
