"""One process at a time in a directory."""

import fcntl
import json
import os
import time
import weakref
from contextlib import suppress
from pathlib import Path

from cutaway.errors import RunLockedError, SaveError
from cutaway.store.disk import host_name, make_folder, reason

LOCK = "lock"
NAME_SECONDS = 0.2  # how long a holder may take from holding the lock to having its name in the file


class DirectoryLock:
    """Held by the one process that works in a directory: `with DirectoryLock(folder): ...`.

    A second one gets RunLockedError, which names the first. The lock is the kernel's (flock): it ends with
    the process, however that ends, so the name left in the file keeps nobody out. Where an exception leaves a
    folder into which nothing has come, what the lock has made of it, file and folders, is gone again.
    """

    def __init__(self, folder: Path):
        self.path = Path(folder) / LOCK
        self.handle: int | None = None
        self.made: list[Path] = []  # folders, the innermost first
        self.found: set[str] = set()  # what was in the folder before

    def __enter__(self) -> "DirectoryLock":
        folder = self.path.parent
        try:
            self.made = [path for path in (folder, *folder.parents) if not path.exists()]
            make_folder(folder)
            self.found = set(os.listdir(folder))
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as problem:
            self._withdraw()
            raise SaveError(
                f"{self.path}: cannot be made ({reason(problem)}); check path and rights"
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(handle).st_nlink:  # its holder took it back since it was opened here
                os.close(handle)
                return self.__enter__()
            holder = {
                "host": host_name(),
                "pid": os.getpid(),
                "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            }
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(holder).encode() + b"\n", 0)
        except BlockingIOError:
            os.close(handle)
            raise RunLockedError(self.path.parent, self._holder()) from None
        except OSError as problem:
            self._withdraw()
            os.close(handle)
            raise SaveError(f"{self.path}: cannot be locked ({reason(problem)}); use a local disk") from None
        self.handle = handle
        _held.add(self)
        return self

    def __exit__(self, kind: type | None = None, *_: object) -> None:
        _held.discard(self)
        if self.handle is not None:
            if kind is not None:
                self._withdraw()  # while it is held: whoever opened the file already will notice
            os.close(self.handle)
            self.handle = None

    def _withdraw(self) -> None:
        with suppress(OSError):
            if LOCK not in self.found and set(os.listdir(self.path.parent)) - {LOCK} <= self.found:
                self.path.unlink(missing_ok=True)
        with suppress(OSError):
            for folder in self.made:  # the first that is not empty ends it
                folder.rmdir()

    def _holder(self) -> str:
        deadline = time.monotonic() + NAME_SECONDS
        while time.monotonic() < deadline:
            try:
                found = json.loads(self.path.read_bytes())
                return f"process {found['pid']} on {found['host']}, started {found['started']}"
            except (OSError, ValueError, KeyError, TypeError):
                time.sleep(NAME_SECONDS / 20)
        return "another process"


_held: weakref.WeakSet[DirectoryLock] = weakref.WeakSet()


def _release_in_child() -> None:
    """A forked child shares its parent's lock and would keep it after the parent's death; so it lets go."""
    for lock in list(_held):
        lock.__exit__()


os.register_at_fork(after_in_child=_release_in_child)
