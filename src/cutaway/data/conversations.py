"""Conversations from files: JSON lines, as Hugging Face's data sets have them in a column `messages`.

    {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day."}]}

Other keys of a line, such as a number or a source, are not looked at; but tools, which a template would
render, are refused. Files may end in .gz.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutaway.data.chat import ROLE
from cutaway.data.sentences import place_of
from cutaway.data.text import decode_text, read_bytes
from cutaway.errors import ConfigError, FileFormatError, InputMissingError

ASSISTANT = "assistant"
Messages = tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Conversations:
    """Those to learn from and those to be judged on."""

    train: tuple[Messages, ...]
    validation: tuple[Messages, ...]

    @property
    def digest(self) -> str:
        """Of every message of both parts."""
        said = json.dumps([self.train, self.validation], ensure_ascii=False)
        return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()


def read_conversations(source: Sequence[str], validation: float) -> Conversations:
    """The conversations of files, a share of them put aside by a hash of what is said: one that is there
    twice is on one side, and adding some moves no other.

    Raises InputMissingError for a file that is missing or empty, FileFormatError (file, line) for a line that
    is no conversation with an answer in it, ConfigError where a part would be empty.
    """
    found = [messages for path in source for messages in read_file(Path(path))]
    aside = [place_of(json.dumps(messages)) < validation for messages in found]
    if all(aside) or not any(aside):
        raise ConfigError(
            f"data.source: {len(found)} conversations are too few to put {validation:g} of them aside: "
            "give more, or another data.validation"
        )
    parts = ([m for m, out in zip(found, aside, strict=True) if out == side] for side in (False, True))
    return Conversations(*(tuple(part) for part in parts))


def read_file(path: Path) -> list[Messages]:
    """The conversations of one file; raises as `read_conversations` does."""
    if not path.is_file():
        raise InputMissingError(f"{path}: no such file; name JSON lines with messages")
    lines = decode_text(read_bytes(path), path).split("\n")
    found = [read_line(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise InputMissingError(f"{path}: holds no conversation; name a file with one a line")
    return found


def read_line(path: Path, number: int, line: str) -> Messages:
    """The messages of a line; FileFormatError where it is no conversation."""
    try:
        table = json.loads(line)
    except (ValueError, RecursionError):
        raise FileFormatError(path, f"line {number}: not valid JSON; write one object a line") from None
    messages = table.get("messages") if isinstance(table, dict) else None
    if not isinstance(messages, list) or not messages:
        raise FileFormatError(path, f'line {number}: no object with a list "messages"')
    if table.get("tools"):
        raise FileFormatError(path, f"line {number}: has tools, which are not rendered here; take them out")
    for problem in problems(messages):
        raise FileFormatError(path, f"line {number}: {problem}")
    return tuple({"role": message["role"], "content": message["content"]} for message in messages)


def problems(messages: list[Any]) -> Iterator[str]:
    """What is wrong with the messages of a conversation."""
    for place, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or message.keys() != {"role", "content"}:
            yield f"message {place} is not a table of role and content alone"
        elif not isinstance(message["role"], str) or not ROLE.fullmatch(message["role"]):
            yield f"message {place}: role must be a word such as user or assistant"
        elif not isinstance(message["content"], str):
            yield f"message {place}: content must be a string"
    if all(isinstance(message, dict) and message.get("role") != ASSISTANT for message in messages):
        yield "no message of the assistant, so that nothing can be learned from it"
