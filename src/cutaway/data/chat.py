"""Conversations as tokens: rendered by the model's template, and what a message says is never a control
token.

The template's text and the messages' text end up in one string, in which a tokenizer cannot tell who wrote
`<|im_end|>`. So the template is rendered twice: with the messages as they are, and with characters of theirs
hidden (`data.authorship`). What is a control token in the second text was written by the template. The
tokenizer reads the first text with those places marked (`Tokenizer.encode_parts`), all else as plain text and
in one piece, so that tokens are those of transformers wherever messages hold no control tokens. The two texts
must be equal but for what is hidden: a template that looks at hidden characters, as when it cuts a message at
`</think>`, gets a second try in which only whole control tokens are hidden, and its control tokens must be
those of the first.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cutaway.data.authorship import Shield
from cutaway.data.template import Message, render_all
from cutaway.data.tokenizer import Tokenizer
from cutaway.data.vocabularies.tables import read_optional, read_text
from cutaway.errors import ConfigError, FileFormatError

TEMPLATE = "chat_template.jinja"
ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
AT_ONCE = 256
GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


@dataclass(frozen=True)
class Chat:
    """A conversation: its text, its token ids, which of them the assistant wrote (None: not asked)."""

    text: str
    ids: np.ndarray
    assistant: np.ndarray | None = None


def read_template(folder: str | Path) -> str | None:
    """The chat template of a Hugging Face folder, None where it has none; FileFormatError where it is no
    text.
    """
    folder = Path(folder)
    if (folder / TEMPLATE).is_file():
        return read_text(folder / TEMPLATE)
    path = folder / "tokenizer_config.json"
    found = read_optional(path).get("chat_template")
    if isinstance(found, list):
        named = (entry for entry in found if isinstance(entry, dict) and entry.get("name") == "default")
        found = next(named, {}).get("template")
    if found is not None and not isinstance(found, str):
        raise FileFormatError(path, "chat_template is no text, and no list with a default")
    return found


def encode_chat(
    tokenizer: Tokenizer,
    template: str,
    messages: Sequence[Message],
    add_generation_prompt: bool = False,
    *,
    mask: bool = False,
    **variables: Any,
) -> Chat:
    """A conversation's tokens; with `mask`, which of them the assistant wrote, its end of turn included.

    `variables` are the template's, beside the special tokens. Raises as `template.render` does, and
    ConfigError where it cannot be told which control tokens a message wrote, or which part the assistant did.
    """
    return encode_chats(tokenizer, template, [messages], add_generation_prompt, mask=mask, **variables)[0]


def encode_chats(
    tokenizer: Tokenizer,
    template: str,
    chats: Sequence[Sequence[Message]],
    add_generation_prompt: bool = False,
    *,
    mask: bool = False,
    **variables: Any,
) -> list[Chat]:
    """`encode_chat` for many conversations, with a process for every few hundred of them."""
    for messages in chats:
        check_roles(messages)
    found: list[Chat] = []
    for first in range(0, len(chats), AT_ONCE):
        shared = special_names(tokenizer) | variables | {"add_generation_prompt": add_generation_prompt}
        asked = [shared | {"messages": list(messages)} for messages in chats[first : first + AT_ONCE]]
        found += _encode(tokenizer, template, asked, mask)
    return found


def _encode(tokenizer: Tokenizer, template: str, asked: Sequence[dict[str, Any]], mask: bool) -> list[Chat]:
    shield = Shield(tokenizer, template, asked)
    marks = shield.marks if mask and GENERATION.search(template) else ("", "")
    orders = [
        [one, shield.hide(one, strict=True), shield.hide(one, strict=False)]
        + (_turns(one) if mask and not marks[0] else [])
        for one in asked
    ]
    texts = iter(render_all(template, [order for each in orders for order in each], marks))
    return [_tokens(tokenizer, shield, marks, mask, [next(texts) for _ in each]) for each in orders]


def _tokens(
    tokenizer: Tokenizer, shield: Shield, marks: tuple[str, str], mask: bool, texts: Sequence[str]
) -> Chat:
    """The tokens of a text that was rendered plain, strictly hidden, less so, and answer by answer."""
    (text, spans), (strict, _), (lenient, _) = (_unmarked(each, marks) for each in texts[:3])
    places = shield.find(_choose(shield, text, strict, lenient))
    if mask and not marks[0]:
        spans = [_with_end(text, places, span) for span in _assistant(text, texts[3:])]
    parts, starts = _parts(tokenizer, text, places)
    ids, offsets = tokenizer.encode_parts(parts)
    return Chat(text, ids, _overlap(offsets, parts, starts, spans) if mask else None)


def special_names(tokenizer: Tokenizer) -> dict[str, str]:
    """The special tokens by the names that templates have for them."""
    roles = {
        "bos_token": tokenizer.begin,
        "eos_token": tokenizer.end,
        "pad_token": tokenizer.pad,
        "unk_token": tokenizer.unknown,
    }
    return {role: tokenizer.names[number] for role, number in roles.items() if number is not None}


def check_roles(messages: Sequence[Message]) -> None:
    """Raises ConfigError for a message without a role: templates write it beside their control tokens."""
    for number, message in enumerate(messages, 1):
        role = message.get("role") if isinstance(message, Mapping) else None
        if not isinstance(role, str) or not ROLE.fullmatch(role):
            raise ConfigError(f"message {number}: role {role!r} must be a word such as user or assistant")


def _choose(shield: Shield, text: str, strict: str, lenient: str) -> str:
    """The hidden view that is the text but for its hidden characters."""
    if shield.show(strict) == text:
        return strict
    names = [name for *_, name in shield.find(lenient)]
    if shield.show(lenient) == text and names == [name for *_, name in shield.find(strict)]:
        return lenient
    raise ConfigError(
        "chat: this template changes messages by the control tokens in their text, so that nobody can tell "
        "whose they are: take them out of the messages"
    )


def _parts(
    tokenizer: Tokenizer, text: str, places: Sequence[tuple[int, int, str]]
) -> tuple[list[str | int], list[int]]:
    """The text in plain strings and ids of control tokens, and where each begins."""
    parts: list[str | int] = []
    starts: list[int] = []
    at = 0
    for begin, end, name in [*places, (len(text), len(text), "")]:
        if begin > at:
            parts.append(text[at:begin])
            starts.append(at)
        if name:
            number = tokenizer.inner.token_to_id(name)
            assert number is not None
            parts.append(number)
            starts.append(begin)
        at = end
    return parts, [*starts, len(text)]


def _overlap(
    offsets: np.ndarray, parts: Sequence[str | int], starts: Sequence[int], spans: Sequence[tuple[int, int]]
) -> np.ndarray:
    """For each token whether it stands for a character of one of the spans of the text."""
    sizes = np.array([len(part) if isinstance(part, str) else 1 for part in parts], np.int64)
    joined = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    begins = np.array(starts, np.int64)
    control = np.array([not isinstance(part, str) for part in parts], bool)
    part = np.clip(np.searchsorted(joined, offsets[:, 0], "right") - 1, 0, max(len(parts) - 1, 0))
    if not len(parts):
        return np.zeros(len(offsets), bool)
    first = begins[part] + np.where(control[part], 0, offsets[:, 0] - joined[part])
    last = np.where(control[part], begins[part] + 1, begins[part] + offsets[:, 1] - joined[part])
    found = np.zeros(len(offsets), bool)
    for begin, end in spans:
        found |= (first < end) & (last > begin)
    return found


def _unmarked(text: str, marks: tuple[str, str]) -> tuple[str, list[tuple[int, int]]]:
    """A text without its marks, and the spans that they stood around."""
    if not marks[0]:
        return text, []
    pieces = re.split(f"([{marks[0]}{marks[1]}])", text)
    spans, open_at, at = [], 0, 0
    for piece in pieces:
        if piece == marks[0]:
            open_at = at
        elif piece == marks[1]:
            spans.append((open_at, at))
        else:
            at += len(piece)
    return "".join(piece for piece in pieces if piece not in marks), spans


def _turns(asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each message of the assistant the conversation that it answers, and the one that ends with it."""
    messages = asked["messages"]
    return [
        {**asked, "messages": messages[: place + size], "add_generation_prompt": not size}
        for place, message in enumerate(messages)
        if message["role"] == "assistant"
        for size in (0, 1)
    ]


def _assistant(text: str, prefixes: Sequence[str]) -> list[tuple[int, int]]:
    """What each message of the assistant adds to the conversation before it."""
    spans = []
    for number, (before, after) in enumerate(zip(prefixes[::2], prefixes[1::2], strict=True), 1):
        pairs = enumerate(zip(before, after, strict=False))
        begin = next((at for at, (one, other) in pairs if one != other), min(len(before), len(after)))
        if not text.startswith(after) or before[begin:].strip():
            raise ConfigError(
                f"chat: answer {number} changes what stands before it, or what follows changes it, so "
                "that its tokens are unknown: put {% generation %} and {% endgeneration %} around it in the "
                "template"
            )
        spans.append((begin, len(after)))
    return spans


def _with_end(text: str, places: Sequence[tuple[int, int, str]], span: tuple[int, int]) -> tuple[int, int]:
    """A span up to its last control token, where only white space follows that."""
    ends = [end for begin, end, _ in places if span[0] <= begin and end <= span[1]]
    return (span[0], ends[-1]) if ends and not text[ends[-1] : span[1]].strip() else span
