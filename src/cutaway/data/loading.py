"""A tokenizer from its `tokenizer.json`, ours or another's."""

import base64
from pathlib import Path
from typing import Any

import tokenizers

from cutaway.data.charsmap import check_charsmap
from cutaway.data.record import END, check_record
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import FileFormatError, InputMissingError
from cutaway.store import read_file, read_many

MOST_FILE_BYTES = 2**28
ROLES = ("end", "begin", "pad", "start", "unknown")


def load_tokenizer(path: str | Path, end: str | None = END, **roles: Any) -> Tokenizer:
    """Reads a `tokenizer.json`, with the `roles` of `Tokenizer`; FileFormatError names the rule it breaks."""
    path = Path(path)
    if not path.is_file():
        raise InputMissingError(f"{path}: no such tokenizer file; check the path")
    data = read_file(path, MOST_FILE_BYTES, "tokenizer.json")
    record = read_many(path, data)
    try:
        check_record(path, record)
        check_rules(path, record.get("normalizer"))
        return Tokenizer(tokenizers.Tokenizer.from_str(data.decode()), end, **roles)
    except FileFormatError:
        raise
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as problem:  # the library raises bare Exception, and PanicException beside it
        raise FileFormatError(
            path, f"not a readable tokenizer.json ({problem}); save or fetch it again"
        ) from None


def roles_of(tokenizer: Tokenizer) -> dict[str, Any]:
    """The names of the tokens that have a role, and the ids of `ends`: with these, `load_tokenizer` makes the
    same tokenizer of its JSON.
    """
    ids = {role: getattr(tokenizer, role) for role in ROLES}
    named = {role: None if number is None else tokenizer.names[number] for role, number in ids.items()}
    return named | {"ends": sorted(tokenizer.ends)}


def check_rules(path: Path, normalizer: Any) -> None:
    """FileFormatError where rules for characters, which the library trusts, lead outside themselves."""
    waiting = [normalizer]
    while waiting:
        step = waiting.pop()
        if not isinstance(step, dict):
            continue
        inner = step.get("normalizers")
        waiting += inner if isinstance(inner, list) else []
        if step.get("type") == "Precompiled" and isinstance(step.get("precompiled_charsmap"), str):
            check_charsmap(path, base64.b64decode(step["precompiled_charsmap"]))
