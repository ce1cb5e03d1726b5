"""Public texts that recipes name: fetched once from their source, held against a checksum, and kept.

A name stands for a file, or for a folder of files that belong together.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from cutaway.data.shards import default_cache
from cutaway.errors import FileFormatError, InputMissingError
from cutaway.spec.run import MaskedText, Parallel, Recipe, Text
from cutaway.store import write_file

SECONDS = 30


@dataclass(frozen=True)
class Public:
    """A file that anybody may fetch: where it is, what it must be, and its terms."""

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

MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/"
FOLDERS = {
    "multi30k:": tuple(
        Public(MULTI30K + file, size, sha256, "for research, not for trade (captions of Flickr30k)")
        for file, size, sha256 in (
            ("train.de.gz", 637_044, "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"),
            ("train.en.gz", 568_929, "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"),
            ("val.de.gz", 24_681, "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"),
            ("val.en.gz", 21_650, "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"),
            (
                "test_2016_flickr.de.gz",
                22_890,
                "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
            ),
            (
                "test_2016_flickr.en.gz",
                21_077,
                "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
            ),
            ("train.fr.gz", 604_242, "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c"),
            ("val.fr.gz", 23_001, "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9"),
            (
                "test_2016_flickr.fr.gz",
                22_310,
                "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
            ),
        )
    ),
}


def with_local_data(recipe: Recipe) -> Recipe:
    """The recipe with public texts replaced by their copies on this machine; raises as `local_sources`."""
    match recipe.data:
        case Text() as data:
            general = local_sources(data.general)
            return replace(recipe, data=replace(data, source=local_sources(data.source), general=general))
        case MaskedText() as data:
            return replace(recipe, data=replace(data, source=local_sources(data.source)))
        case Parallel(folder=name) as data if name in FOLDERS:
            return replace(recipe, data=replace(data, folder=fetch_folder(name)))
    return recipe


def local_sources(source: Sequence[str]) -> tuple[str, ...]:
    """The source with each name of a public text replaced by the path of its copy on this machine.

    Raises InputMissingError where a text is neither in the cache nor to be fetched, FileFormatError where
    what came is not the text that was meant.
    """
    return tuple(fetch(name) if name in PUBLIC else name for name in source)


def fetch(name: str) -> str:
    """The path of a public text, downloaded unless the cache has it."""
    return str(_fetched(name, PUBLIC[name], "file"))


def fetch_folder(name: str) -> str:
    """The path of a public folder, downloaded unless the cache has it; raises as `local_sources`."""
    files = [_fetched(name, public, "folder") for public in FOLDERS[name]]
    return str(files[0].parent)


def keep_copy(name: str, path: str | Path) -> bool:
    """Whether a file or folder is a copy of a public one; if it is, the cache has it, as if downloaded."""
    path = Path(path)
    if name in FOLDERS:
        meant = [(path / _file_name(public), public) for public in FOLDERS[name]]
    else:
        meant = [(path, PUBLIC[name])] if name in PUBLIC else []
    if not meant or not all(_is_copy(file, public) for file, public in meant):
        return False
    for file, public in meant:
        write_file(_kept(name, public), file.read_bytes())
    return True


def _fetched(name: str, public: Public, what: str) -> Path:
    path = _kept(name, public)
    if _is_copy(path, public):
        return path
    try:
        with urlopen(public.url, timeout=SECONDS) as answer:
            data = answer.read(public.bytes + 1)
    except (OSError, HTTPException) as problem:
        reason = getattr(problem, "reason", None) or problem
        raise InputMissingError(
            f"{name} could not be downloaded ({reason}): fetch {public.url} yourself, "
            f"name the {what} by --data"
        ) from None
    if not _is_meant(data, public):
        raise FileFormatError(
            public.url, f"not the text that was meant (SHA-256 {public.sha256}); use --data"
        )
    write_file(path, data)
    return path


def _kept(name: str, public: Public) -> Path:
    """Its place in the cache. The file is called as at its source: the name is part of a corpus' digest, and
    so a copy that somebody fetched has the same.
    """
    return default_cache() / "downloads" / name.rstrip(":") / _file_name(public)


def _file_name(public: Public) -> str:
    return public.url.rpartition("/")[2]


def _is_copy(file: Path, public: Public) -> bool:
    return file.is_file() and file.stat().st_size == public.bytes and _is_meant(file.read_bytes(), public)


def _is_meant(data: bytes, public: Public) -> bool:
    return len(data) == public.bytes and hashlib.sha256(data).hexdigest() == public.sha256
