"""Who wrote which character of a rendered chat: what others than the template say is hidden, one for one.

A hidden character is a private-use one that occurs nowhere else. `strict` hides, of what people and tools
say, every character that a control token begins with; of what the assistant said, the same but for its tags
that are no special tokens, such as <think>, which it may write. Otherwise only the first character of whole
control tokens is hidden, of the assistant's only those of special ones.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import ConfigError, LimitError

OTHERS = ("messages", "tools", "documents")  # variables that hold what others than the template say
PRIVATE = range(0xF_FFFD, 0xF_F000, -1)


class Shield:
    """Replaces characters by private-use ones that occur neither in the template nor in what it is given."""

    def __init__(self, tokenizer: Tokenizer, template: str, asked: Sequence[Mapping[str, Any]]):
        try:
            taken = set(template + json.dumps(asked, ensure_ascii=False))
        except (TypeError, ValueError, RecursionError) as problem:
            raise ConfigError(f"chat: messages must be plain values of JSON ({problem})") from None
        self.flags = {token["content"]: token for token in tokenizer.record["added_tokens"]}
        names = sorted(tokenizer.controls, key=len, reverse=True)
        first = sorted({name[0] for name in names})
        free = [chr(point) for point in PRIVATE if chr(point) not in taken][: len(first) + 2]
        if len(free) < len(first) + 2:
            raise LimitError("chat: the messages hold too many private-use characters: take some out")
        self.marks = (free[-2], free[-1])
        self.hidden = str.maketrans(dict(zip(first, free, strict=False)))
        self.shown = str.maketrans(dict(zip(free, first, strict=False)))
        self._all = _any_of(names)
        special = [name for name in names if self.flags[name]["special"]]
        self._special = _any_of(special)
        tags = [name for name in names if name not in special]
        self._tag_or_letter = _any_of([*tags, *first])
        self._tags = frozenset(tags)

    def hide(self, asked: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
        """The variables with what others than the template say hidden."""
        found = dict(asked)
        for key in OTHERS:
            if found.get(key) is not None:
                found[key] = [self._message(entry, strict) for entry in found[key]]
        return found

    def show(self, text: str) -> str:
        """A text with its hidden characters as they were."""
        return text.translate(self.shown)

    def find(self, text: str) -> list[tuple[int, int, str]]:
        """Beginning, end and name of each control token in a text, as the library finds them."""
        found: list[tuple[int, int, str]] = []
        for match in self._all.finditer(text):
            begin, end, flags = match.start(), match.end(), self.flags[match[0]]
            if flags["single_word"] and re.search(
                r"\w", text[max(begin - 1, 0) : begin] + text[end : end + 1]
            ):
                continue
            if flags["lstrip"]:
                least = found[-1][1] if found else 0
                while begin > least and text[begin - 1].isspace():
                    begin -= 1
            if flags["rstrip"]:
                while text[end : end + 1].isspace():
                    end += 1
            found.append((begin, end, match[0]))
        return found

    def _message(self, entry: Any, strict: bool) -> Any:
        own = isinstance(entry, Mapping) and entry.get("role") == "assistant"
        if strict:
            return _mapped(entry, self._hide_letters if own else lambda text: text.translate(self.hidden))
        names = self._special if own else self._all
        return _mapped(entry, lambda text: names.sub(self._hide_first, text))

    def _hide_letters(self, text: str) -> str:
        return self._tag_or_letter.sub(
            lambda found: found[0] if found[0] in self._tags else found[0].translate(self.hidden), text
        )

    def _hide_first(self, found: re.Match[str]) -> str:
        return found[0][0].translate(self.hidden) + found[0][1:]


def _any_of(names: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, names)) or r"(?!)")


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A value of JSON with every string changed, but no key and no role."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: one if key == "role" else _mapped(one, change) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(one, change) for one in value]
    return value
