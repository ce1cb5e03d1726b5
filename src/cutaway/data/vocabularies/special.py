"""Special tokens, as the small files of a Hugging Face folder tell them.

tokenizer_config.json has a name for each role (`bos_token`, ...) and the added tokens by id; where it does
not say, special_tokens_map.json and added_tokens.json do. generation_config.json, or config.json where that
is missing, has the ids that end a text and the one that a decoder begins with.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, processors

from cutaway.data.vocabularies.tables import MOST_IDS, check_name, checked, read_optional
from cutaway.errors import FileFormatError
from cutaway.store import told

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")
MOST_ADDED = 2**14  # Gemma has 6,000


Ids = tuple[tuple[int, ...], int | None]  # that end a text, and that a decoder begins with


@dataclass(frozen=True)
class Special:
    """What the files of a folder say: names by role, added tokens by id, ids that end and begin a text, by
    generation_config.json and by config.json.
    """

    path: Path  # of the file that says most, for messages
    settings: dict[str, Any] = field(default_factory=dict)  # of tokenizer_config.json
    roles: dict[str, str] = field(default_factory=dict)
    added: dict[int, AddedToken] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    generation: Ids = ((), None)
    config: Ids = ((), None)


def read_special(folder: Path) -> Special:
    """What a folder says about special tokens; FileFormatError where a file says it wrongly."""
    path = folder / "tokenizer_config.json"
    settings, listed = read_optional(path), read_optional(folder / "special_tokens_map.json")
    roles: dict[str, str] = {}
    for role in ROLES:
        for file, table in ((path, settings), (folder / "special_tokens_map.json", listed)):
            if role not in roles and table.get(role) is not None:
                roles[role] = _content(file, role, table[role])
    extra = settings.get("extra_special_tokens") or settings.get("additional_special_tokens")
    extra = extra or listed.get("additional_special_tokens") or ()
    if isinstance(extra, dict):
        extra = list(extra.values())
    if not isinstance(extra, list | tuple):
        raise FileFormatError(path, "additional_special_tokens is no list of tokens")
    extra = tuple(_content(path, "additional_special_tokens", entry) for entry in extra)
    return Special(
        path,
        settings,
        roles,
        _added(folder, settings, {*roles.values(), *extra}),
        extra,
        _ids(folder / "generation_config.json"),
        _ids(folder / "config.json"),
    )


def _ids(path: Path) -> Ids:
    table = read_optional(path)
    ends, start = table.get("eos_token_id"), table.get("decoder_start_token_id")
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    found = tuple(_id(path, "eos_token_id", number) for number in ends)
    return found, None if start is None else _id(path, "decoder_start_token_id", start)


def add_tokens(inner: tokenizers.Tokenizer, special: Special) -> None:
    """Adds what the files list: added tokens in the order of their ids, then names of roles that have no id
    yet.

    Raises FileFormatError where a token's id would be another one than the files say.
    """
    ordered = [(number, special.added[number]) for number in sorted(special.added)]
    for whether, run in groupby((token for _, token in ordered), lambda token: token.special):
        (inner.add_special_tokens if whether else inner.add_tokens)([*run])  # each call makes all anew
    for number, token in ordered:
        found = inner.token_to_id(token.content)
        if found != number:
            raise FileFormatError(
                special.path,
                f"added token {token.content!r} has id {number}, but the vocabulary gives it {found}",
            )
    named = dict.fromkeys([*special.roles.values(), *special.extra])
    known = {token.content for token in special.added.values()}
    inner.add_special_tokens([AddedToken(name, normalized=False) for name in named if name not in known])


def put_around(inner: tokenizers.Tokenizer, before: Iterable[str], after: Iterable[str]) -> None:
    """Has whole texts stand between these special tokens, as Hugging Face reads it from tokenizer.json."""
    before, after = tuple(before), tuple(after)
    if before or after:
        names = dict.fromkeys([*before, *after])
        inner.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *after],
            pair=[
                *before,
                "$A",
                *after,
                *(f"{name}:1" for name in before),
                "$B:1",
                *(f"{n}:1" for n in after),
            ],
            special_tokens=[(name, inner.token_to_id(name)) for name in names],
        )


def check_whole(path: Path, inner: tokenizers.Tokenizer) -> None:
    """Raises FileFormatError where two tokens have one id: a vocabulary with gaps, and added tokens."""
    ids = inner.get_vocab(with_added_tokens=True)
    if len(set(ids.values())) < len(ids):
        raise FileFormatError(path, "the vocabulary leaves ids out, and added tokens would get ids of others")


def ids_of(special: Special, names: Container[int]) -> tuple[frozenset[int], int | None]:
    """The ids that end a text, and the one a decoder begins with, where the files say it.

    Raises FileFormatError for an id of generation_config.json that the vocabulary does not have. config.json
    holds what is usual for its class, often with another vocabulary: there such an id says nothing.
    """
    ends, start = special.generation
    for number in (*ends, start):
        if number is not None and number not in names:
            path = special.path.with_name("generation_config.json")
            raise FileFormatError(path, f"names token {number}, which the vocabulary does not have")
    usual = tuple(number for number in special.config[0] if number in names)
    if start is None and (first := special.config[1]) is not None and first in names:
        start = first
    return frozenset(ends or usual), start


def _content(path: Path, role: str, value: object) -> str:
    name = value.get("content") if isinstance(value, dict) else value
    if not isinstance(name, str) or not name:
        raise FileFormatError(path, f"{role}: {told(value)} is no token")
    check_name(path, name, role)
    return name


def _id(path: Path, key: str, value: object) -> int:
    if type(value) is not int or not 0 <= value < MOST_IDS:
        raise FileFormatError(path, f"{key}: {told(value)} is no id")
    return value


def _added(folder: Path, settings: dict[str, Any], special: set[str]) -> dict[int, AddedToken]:
    path = folder / "tokenizer_config.json"
    listed = checked(path, settings, "added_tokens_decoder", dict)
    if listed is None:
        path = folder / "added_tokens.json"
        listed = {str(number): {"content": name} for name, number in read_optional(path).items()}
    if len(listed) > MOST_ADDED:
        raise FileFormatError(path, f"more than {MOST_ADDED:,} added tokens")
    found: dict[int, AddedToken] = {}
    names: set[str] = set()
    for key, entry in listed.items():
        if not (key.isascii() and key.isdigit() and len(key) < 10) or not isinstance(entry, dict):
            raise FileFormatError(path, f"added token {key[:40]!r}: must be an id with a token")
        name = _content(path, f"added token {key}", entry)
        flags = {flag: checked(path, entry, flag, bool, False) for flag in FLAGS if flag in entry}
        flags.setdefault("special", name in special)
        flags.setdefault("normalized", not flags["special"])
        number = _id(path, "added token", int(key))
        if number in found or name in names:
            raise FileFormatError(path, f"added token {name!r}, id {number}: is there twice")
        found[number] = AddedToken(name, **flags)
        names.add(name)
    return found
