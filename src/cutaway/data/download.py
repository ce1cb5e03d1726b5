"""Public texts that recipes name: fetched once from their source, held against a checksum, and kept."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from cutaway.data.shards import default_cache
from cutaway.errors import FileFormatError, InputMissingError
from cutaway.spec.run import Recipe, Text
from cutaway.store import write_file

SECONDS = 30


@dataclass(frozen=True)
class Public:
    """A text that anybody may fetch: where it is, what it must be, and its terms."""

    url: str
    bytes: int
    sha256: str
    terms: str


PUBLIC = {
    "tinyshakespeare:": Public(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        1_115_394,
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        "public domain",
    ),
}


def with_local_data(recipe: Recipe) -> Recipe:
    """The recipe with public texts replaced by their copies on this machine; raises as `local_sources`."""
    if not isinstance(recipe.data, Text):
        return recipe
    return replace(recipe, data=replace(recipe.data, source=local_sources(recipe.data.source)))


def local_sources(source: Sequence[str]) -> tuple[str, ...]:
    """The source with each name of a public text replaced by the path of its copy on this machine.

    Raises InputMissingError where a text is neither in the cache nor to be fetched, FileFormatError where
    what came is not the text that was meant.
    """
    return tuple(fetch(name) if name in PUBLIC else name for name in source)


def fetch(name: str) -> str:
    """The path of a public text, downloaded unless the cache has it."""
    public = PUBLIC[name]
    path = _kept(name)
    if path.is_file() and _is_meant(path.read_bytes(), public):
        return str(path)
    try:
        with urlopen(public.url, timeout=SECONDS) as answer:
            data = answer.read(public.bytes + 1)
    except (OSError, HTTPException) as problem:
        reason = getattr(problem, "reason", None) or problem
        raise InputMissingError(
            f"{name} could not be downloaded ({reason}): fetch {public.url} yourself, name the file by --data"
        ) from None
    if not _is_meant(data, public):
        raise FileFormatError(
            public.url, f"not the text that was meant (SHA-256 {public.sha256}); use --data"
        )
    write_file(path, data)
    return str(path)


def keep_copy(name: str, file: str | Path) -> bool:
    """Whether a file is a copy of a public text; if it is, the cache has it from now on, as if downloaded."""
    path, public = Path(file), PUBLIC.get(name)
    if public is None or not path.is_file() or path.stat().st_size != public.bytes:
        return False
    data = path.read_bytes()
    if not _is_meant(data, public):
        return False
    write_file(_kept(name), data)
    return True


def _kept(name: str) -> Path:
    """Its place in the cache. The file is called as at its source: the name is part of a corpus' digest, and
    so a copy that somebody fetched has the same.
    """
    return default_cache() / "downloads" / name.rstrip(":") / PUBLIC[name].url.rpartition("/")[2]


def _is_meant(data: bytes, public: Public) -> bool:
    return len(data) == public.bytes and hashlib.sha256(data).hexdigest() == public.sha256
