"""Folders that are complete or absent: filled beside, listed in a manifest, brought to the disk, renamed."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cutaway.errors import FileFormatError, InputMissingError, OutputExistsError
from cutaway.store.disk import (
    TEMPORARY,
    Failure,
    check_space,
    host_name,
    is_running,
    make_folder,
    not_saved,
    persist,
    reason,
    sync_path,
    temporary_beside,
    write_synced,
)

FORMAT = 1
MANIFEST = "manifest.json"
MOST_MANIFEST_BYTES = 16 * 2**20


def write_folder(
    target: Path, fill: Callable[[Path], None], *, need: int = 0, failure: Failure = not_saved
) -> None:
    """Makes the folder `target` out of what `fill` writes into the empty folder it is given.

    `need` is the size in bytes to expect: a disk with less than 1.2 times that counts as full. After an
    OSError all is tried again, up to three times, each with a fresh folder; then nothing is left behind and
    `failure(need, free, path, why)` is raised. OutputExistsError where the target already exists. Any other
    exception of `fill` passes through, and nothing is left behind.
    """
    target = Path(target)

    def attempt() -> None:
        if os.path.lexists(target):
            raise _exists(target)
        make_folder(target.parent)
        check_space(target.parent, need)
        beside = temporary_beside(target)
        try:
            beside.mkdir()
            fill(beside)
            _seal(beside)
            _rename(beside, target)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise

    persist(attempt, target, need, failure)
    persist(lambda: sync_path(target.parent), target, need, failure)


def verify_folder(folder: Path) -> None:
    """Raises FileFormatError unless the folder holds exactly the files of its manifest, byte for byte."""
    with _reading(folder):
        for path, size, digest in _listed_files(Path(folder)):
            _verify_size(path, size)
            if _digest(path) != digest:
                raise FileFormatError(path, f"SHA-256 is not the one in {MANIFEST}: the file is damaged")


def verify_sizes(folder: Path) -> None:
    """The quick half of `verify_folder`: the right files with the right sizes, their bytes unread."""
    with _reading(folder):
        for path, size, _ in _listed_files(Path(folder)):
            _verify_size(path, size)


def sweep(parent: Path) -> list[Path]:
    """Removes, and returns, what processes of this machine that no longer run left half-written."""
    removed = []
    for path in sorted(Path(parent).glob(".*.tmp-*")):
        found = TEMPORARY.fullmatch(path.name)
        if found and found["host"] == host_name() and not is_running(int(found["process"])):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _exists(target: Path) -> OutputExistsError:
    return OutputExistsError(f"{target}: already exists; remove it or choose another name")


def _rename(beside: Path, target: Path) -> None:
    try:
        os.rename(beside, target)
    except OSError as problem:
        if problem.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise _exists(target) from None
        raise


def _seal(folder: Path) -> None:
    """Writes the manifest and brings every file and folder to the disk."""
    listed = {}
    for path in _files(folder):
        sync_path(path)
        listed[path.relative_to(folder).as_posix()] = (path.stat().st_size, _digest(path))
    write_synced(folder / MANIFEST, _manifest(listed))
    for inside in folder.rglob("*"):
        if inside.is_dir():
            sync_path(inside)
    sync_path(folder)


def _manifest(listed: dict[str, tuple[int, str]]) -> bytes:
    files = {name: {"size": size, "sha256": digest} for name, (size, digest) in listed.items()}
    return json.dumps({"format": FORMAT, "files": files}, indent=1, sort_keys=True).encode() + b"\n"


def _entries(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    """All that is below a folder. Not `rglob`: that passes over what it cannot read."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)


def _files(folder: Path) -> list[Path]:
    return sorted(Path(entry) for entry in _entries(folder) if not entry.is_dir(follow_symlinks=False))


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise FileFormatError(problem.filename or folder, f"cannot be read ({reason(problem)})") from None


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify_size(path: Path, size: int) -> None:
    if path.is_symlink() or not path.is_file():
        raise FileFormatError(path, "not a plain file: it does not belong here")
    if (found := path.stat().st_size) != size:
        raise FileFormatError(path, f"{found:,} bytes, but {MANIFEST} says {size:,}: the file is damaged")


def _listed_files(folder: Path) -> list[tuple[Path, int, str]]:
    """Path, size and digest of each file in the manifest, which lists what is there and nothing else."""
    listed = _read_manifest(folder)
    found = {path.relative_to(folder).as_posix() for path in _files(folder)} - {MANIFEST}
    for name in sorted(listed.keys() - found):
        raise FileFormatError(folder / name, f"missing, but in {MANIFEST}: the folder is incomplete")
    for name in sorted(found - listed.keys()):
        raise FileFormatError(folder / name, f"not in {MANIFEST}: it does not belong here, remove it")
    return [(folder / name, *listed[name]) for name in sorted(listed)]


def _read_manifest(folder: Path) -> dict[str, tuple[int, str]]:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise InputMissingError(f"{folder}: no such folder; check the path")
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_MANIFEST_BYTES)
        record = json.loads(data)
        if record["format"] != FORMAT:
            raise FileFormatError(
                path, f"format {record['format']!r}, but this cutaway reads {FORMAT}: use a newer"
            )
        listed = {name: (entry["size"], entry["sha256"]) for name, entry in record["files"].items()}
    except OSError as problem:
        raise FileFormatError(path, f"cannot be read ({reason(problem)}): the folder is incomplete") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FileFormatError(path, "not a manifest: the file is damaged") from None
    # The digests guard the files; the manifest guards itself by having one spelling only.
    typed = all(type(size) is int and type(digest) is str for size, digest in listed.values())
    if not typed or _manifest(listed) != data:
        raise FileFormatError(path, "not as Cutaway writes it: the file is damaged")
    return listed
