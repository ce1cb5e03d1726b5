"""Single files that are the old or the new, logs that grow by whole lines, and reading within bounds."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO

from cutaway.errors import FileFormatError, InputMissingError
from cutaway.store.disk import (
    Failure,
    check_space,
    fill_synced,
    free_bytes,
    make_folder,
    not_saved,
    persist,
    reason,
    sync_path,
    temporary_beside,
)

BLOCK_BYTES = 2**16


def write_file(target: Path, data: bytes, *, failure: Failure = not_saved) -> None:
    """Makes or replaces a file in one instant; OSErrors are met as in `write_folder`."""
    stream_file(target, lambda file: file.write(data), need=len(data), failure=failure)


def stream_file(
    target: Path, fill: Callable[[IO[bytes]], object], *, need: int, failure: Failure = not_saved
) -> None:
    """`write_file` for what is written piece by piece, `need` bytes in all; `fill` is called at each try."""
    target = Path(target)

    def attempt() -> None:
        make_folder(target.parent)
        check_space(target.parent, need)
        beside = temporary_beside(target)
        try:
            fill_synced(beside, fill)
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    persist(attempt, target, need, failure)
    persist(lambda: sync_path(target.parent), target, need, failure)


def read_file(path: str | Path, most: int, kind: str) -> bytes:
    """The bytes of a file that has at most `most`; `kind` says in the message what such a file is.

    Raises InputMissingError where it cannot be read, FileFormatError where it is larger.
    """
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            size = min(found.st_size, most) if stat.S_ISREG(found.st_mode) else most
            data = file.read(size + 1)  # and no larger, for so much is taken of memory at once
    except OSError as problem:
        raise InputMissingError(f"{path}: cannot be read ({problem.strerror}); check the path") from None
    if len(data) > most:
        raise FileFormatError(path, f"more than {most:,} bytes, which no {kind} has; name another file")
    return data


def append_line(path: Path, line: str) -> None:
    """Adds a line to a file in one system call; what a crash left of an unfinished last line goes first.

    Raises SaveError, the file as it was, where the line does not fit. For one writer at a time.
    """
    if "\n" in line:
        raise ValueError("a line has no newline inside")
    data, path = line.encode("utf-8") + b"\n", Path(path)
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _append(handle, data)
        finally:
            os.close(handle)
    except OSError as problem:
        raise not_saved(len(data), free_bytes(path.parent), path, reason(problem)) from problem


def read_lines(path: Path) -> list[str]:
    """The lines of a file that `append_line` wrote: an unfinished last one is left out, no file has none."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return []
    try:
        return data[: data.rfind(b"\n") + 1].decode("utf-8").split("\n")[:-1]
    except UnicodeDecodeError as problem:
        raise FileFormatError(path, "not UTF-8: the file is damaged", problem.start) from None


def keep_lines(path: Path, keep: Callable[[str], bool]) -> None:
    """Rewrites a file in one instant with those of its lines that `keep` accepts."""
    data = "".join(f"{line}\n" for line in read_lines(path) if keep(line)).encode("utf-8")
    if Path(path).exists() and len(data) != Path(path).stat().st_size:
        write_file(path, data)


def sync_file(path: Path) -> None:
    """Returns once what was appended to a file is on the disk; SaveError where that fails."""
    path = Path(path)
    persist(lambda: sync_path(path), path, 0, not_saved)


def _append(handle: int, data: bytes) -> None:
    size = _end_of_lines(handle)
    try:
        if os.write(handle, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(handle, size)
        raise


def _end_of_lines(handle: int) -> int:
    """Cuts an unfinished last line off; returns the size left."""
    size = end = os.fstat(handle).st_size
    if end and os.pread(handle, 1, end - 1) == b"\n":
        return end
    while end:
        start = max(0, end - BLOCK_BYTES)
        newline = os.pread(handle, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(handle, end)
    return end
