"""What every durable write is made of: a name for the unfinished, fsync, retries, room on the disk."""

import errno
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from cutaway.errors import SaveError

SPACE_FACTOR = 1.2
RETRY_SECONDS = (0.1, 0.4, 1.6)
TEMPORARY = re.compile(r"\..+\.tmp-(?P<host>.+)-(?P<process>\d+)-[0-9a-f]{8}")

# What waiting does not change: no rights, a read-only disk, a name that cannot be.
FINAL = frozenset(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
)

Failure = Callable[[int, int, Path, str], SaveError]  # need, free, path, why; CheckpointSaveError is one


def not_saved(need: int, free: int, path: Path, why: str) -> SaveError:
    """The error of a write that failed to the last try."""
    return SaveError(f"{path}: not saved: {why} (need {need:,} bytes, free {free:,}); nothing was changed")


def persist(attempt: Callable[[], None], target: Path, need: int, failure: Failure) -> None:
    """Tries up to four times, waiting in between, what may raise an OSError; then raises `failure`."""
    for seconds in (*RETRY_SECONDS, None):
        try:
            attempt()
            return
        except OSError as problem:
            if seconds is None or problem.errno in FINAL:
                raise failure(need, free_bytes(target.parent), target, reason(problem)) from problem
        time.sleep(seconds)


def reason(problem: OSError) -> str:
    return problem.strerror or str(problem)


def host_name() -> str:
    return re.sub(r"[^\w.-]", "_", socket.gethostname()) or "host"


def temporary_beside(target: Path) -> Path:
    """A name in the same folder that no other process, and no other save of this one, uses."""
    return target.parent / f".{target.name}.tmp-{host_name()}-{os.getpid()}-{secrets.token_hex(4)}"


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def free_bytes(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_space(folder: Path, need: int) -> None:
    """Raises the OSError of a full disk where `need` bytes would leave it nearly full."""
    if need and free_bytes(folder) < SPACE_FACTOR * need:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, each brought to the disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_path(folder.parent)


def sync_path(path: Path) -> None:
    """Brings a file's bytes, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_synced(path: Path, data: bytes) -> None:
    """Makes a new file and brings its bytes to the disk."""
    fill_synced(path, lambda file: file.write(data))


def fill_synced(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Makes a new file of what `fill` writes and brings its bytes to the disk."""
    with open(path, "xb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())
