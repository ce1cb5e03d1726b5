"""Writing so that a crash, a full disk or a power cut leaves the old or the new, never neither, never half.

Every folder goes write -> fsync files -> fsync folder -> rename -> fsync parent, and carries a `manifest.json` with
the size and SHA-256 of each file; a single file goes the same way without the manifest. A folder, once there, is
never written again: what changes gets a new name. `DirectoryLock` lets one process at a time work in a directory.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cutaway.errors import FileFormatError, InputMissingError, OutputExistsError, RunLockedError, SaveError

FORMAT = 1
MANIFEST = "manifest.json"
MOST_MANIFEST_BYTES = 16 * 2**20
LOCK = "lock"
SPACE_FACTOR = 1.2
RETRY_SECONDS = (0.1, 0.4, 1.6)
HASH_BYTES = 2**20

Result = TypeVar("Result")
Failure = Callable[[int, int, Path, str], SaveError]


def not_saved(need: int, free: int, path: Path, why: str) -> SaveError:
    """The error of a write that failed to the last: what it needed, what the disk had."""
    return SaveError(
        f"{path}: not saved ({why}); need {need:,} bytes, free {free:,}; what was there is untouched"
    )


# ---- folders


def write_folder(
    target: Path, fill: Callable[[Path], None], *, need: int = 0, failure: Failure = not_saved
) -> None:
    """Makes the folder `target` from what `fill` writes into the empty folder it is given.

    `need` is the size in bytes to expect: less than 1.2 times that free counts as a full disk. An OSError is tried
    again up to three times, each time with a fresh folder; then nothing is left behind and `failure(need, free,
    path, why)` is raised. OutputExistsError where the target already exists. Any other exception of `fill` passes
    through, with nothing left behind.
    """
    target = Path(target)

    def attempt() -> None:
        if os.path.lexists(target):
            raise OutputExistsError(f"{target}: already exists; choose another name or remove it")
        _make_folders(target.parent)
        _check_space(target.parent, need)
        beside = _beside(target)
        try:
            beside.mkdir()
            fill(beside)
            _seal(beside)
            _rename_new(beside, target)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise

    _persist(attempt, target, need, failure)
    _persist(lambda: _sync_folder(target.parent), target, need, failure)


def verify_folder(folder: Path) -> None:
    """Raises FileFormatError unless the folder holds exactly the files of its manifest, byte for byte."""
    for path, size, digest in _listed_files(Path(folder)):
        _verify_size(path, size)
        if _digest(path) != digest:
            raise FileFormatError(path, f"SHA-256 differs from {MANIFEST}: the file is damaged")


def verify_sizes(folder: Path) -> None:
    """The quick half of `verify_folder`: the right files with the right sizes, contents unread."""
    for path, size, _ in _listed_files(Path(folder)):
        _verify_size(path, size)


def sweep(parent: Path) -> list[Path]:
    """Removes what processes of this machine that no longer run left half-written in a folder; returns what it was."""
    removed = []
    for path in sorted(Path(parent).glob(".*.tmp-*")):
        found = TEMPORARY.fullmatch(path.name)
        if found and found["host"] == _host() and not _runs(int(found["process"])):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            removed.append(path)
    return removed


# ---- files


def write_file(target: Path, data: bytes, *, failure: Failure = not_saved) -> None:
    """Replaces a file, or makes it, in one instant; the OSError rule of `write_folder` holds."""
    target = Path(target)

    def attempt() -> None:
        _make_folders(target.parent)
        _check_space(target.parent, len(data))
        beside = _beside(target)
        try:
            with open(beside, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    _persist(attempt, target, len(data), failure)
    _persist(lambda: _sync_folder(target.parent), target, len(data), failure)


def append_line(path: Path, line: str) -> None:
    """Adds a line to a file with one system call; what a crash left of an unfinished last line goes first.

    Raises SaveError, with the file as it was, where the line does not fit. Not for two writers at a time.
    """
    if "\n" in line:
        raise ValueError("a line has no newline inside")
    data = line.encode("utf-8") + b"\n"
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as problem:
        raise not_saved(len(data), _free(Path(path).parent), Path(path), _why(problem)) from problem
    try:
        size = _whole_lines(handle)
        try:
            if os.write(handle, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as problem:
            os.ftruncate(handle, size)
            raise not_saved(len(data), _free(Path(path).parent), Path(path), _why(problem)) from problem
    finally:
        os.close(handle)


def read_lines(path: Path) -> list[str]:
    """The lines of a file written by `append_line`; an unfinished last line is dropped, a missing file has none."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return []
    try:
        return data[: data.rfind(b"\n") + 1].decode("utf-8").split("\n")[:-1]
    except UnicodeDecodeError as problem:
        raise FileFormatError(path, "not UTF-8: the file is damaged", problem.start) from None


def keep_lines(path: Path, keep: Callable[[str], bool]) -> None:
    """Rewrites a file in one instant with those of its lines that `keep` accepts; untouched where all are."""
    lines = read_lines(path)
    data = "".join(f"{line}\n" for line in lines if keep(line)).encode("utf-8")
    if lines and len(data) != os.path.getsize(path):
        write_file(path, data)


def sync_file(path: Path) -> None:
    """Returns when what was appended to a file is on the disk."""
    _persist(lambda: _sync(Path(path), os.O_RDONLY), Path(path), 0, not_saved)


# ---- lock


class DirectoryLock:
    """Held by the one process that works in a directory: `with DirectoryLock(folder): ...`.

    A second holder gets RunLockedError naming the first. The lock is the kernel's (flock): it ends with the process,
    however that ends, so what is written in the file is only there to be read.
    """

    def __init__(self, folder: Path):
        self.path = Path(folder) / LOCK
        self.handle: int | None = None

    def __enter__(self) -> "DirectoryLock":
        try:
            _make_folders(self.path.parent)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as problem:
            raise SaveError(
                f"{self.path.parent}: cannot be locked ({_why(problem)}); check its rights"
            ) from problem
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            holder = {"host": _host(), "pid": os.getpid(), "started": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(holder).encode() + b"\n", 0)
        except BlockingIOError:
            os.close(handle)
            raise RunLockedError(self.path.parent, self._holder()) from None
        except OSError as problem:
            os.close(handle)
            raise SaveError(f"{self.path}: cannot be locked ({_why(problem)}); use a local disk") from problem
        self.handle = handle
        _held.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        _held.discard(self)
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None

    def _holder(self) -> str:
        for _ in range(20):  # the holder may be between taking the lock and writing its name
            try:
                found = json.loads(self.path.read_bytes())
                return f"process {found['pid']} on {found['host']}, started {found['started']}"
            except (OSError, ValueError, KeyError, TypeError):
                time.sleep(0.01)
        return "another process"


_held: "weakref.WeakSet[DirectoryLock]" = weakref.WeakSet()


def _release_in_child() -> None:
    """A forked child shares the lock and would keep it alive after its parent; closing its copy keeps the parent's."""
    for lock in list(_held):
        lock.__exit__()


os.register_at_fork(after_in_child=_release_in_child)

# ---- the parts


TEMPORARY = re.compile(r"\..+\.tmp-(?P<host>.+)-(?P<process>\d+)-[0-9a-f]{8}")


def _host() -> str:
    return re.sub(r"[^\w.-]", "_", socket.gethostname()) or "host"


def _beside(target: Path) -> Path:
    return target.parent / f".{target.name}.tmp-{_host()}-{os.getpid()}-{secrets.token_hex(4)}"


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _persist(attempt: Callable[[], Result], target: Path, need: int, failure: Failure) -> Result:
    for seconds in (*RETRY_SECONDS, None):
        try:
            return attempt()
        except OSError as problem:
            if seconds is None:
                raise failure(need, _free(target.parent), target, _why(problem)) from problem
            time.sleep(seconds)
    raise AssertionError("the last try returns or raises")


def _why(problem: OSError) -> str:
    return problem.strerror or str(problem)


def _free(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _check_space(folder: Path, need: int) -> None:
    if need and _free(folder) < SPACE_FACTOR * need:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _make_folders(folder: Path) -> None:
    """Makes a folder and those above it, each recorded on the disk."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _rename_new(beside: Path, target: Path) -> None:
    try:
        os.rename(beside, target)
    except OSError as problem:
        if problem.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise OutputExistsError(f"{target}: already exists; choose another name or remove it") from None
        raise


def _seal(folder: Path) -> None:
    """Writes the manifest and brings every file and folder to the disk."""
    entries = {}
    for path in _files(folder):
        _sync(path, os.O_RDONLY)
        entries[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": _digest(path)}
    with open(folder / MANIFEST, "xb") as file:
        file.write(_manifest_bytes(entries))
        file.flush()
        os.fsync(file.fileno())
    for inside in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        _sync_folder(inside)
    _sync_folder(folder)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest_bytes(entries: dict) -> bytes:
    return json.dumps({"format": FORMAT, "files": entries}, indent=1, sort_keys=True).encode() + b"\n"


def _verify_size(path: Path, size: int) -> None:
    if path.is_symlink() or not path.is_file():
        raise FileFormatError(path, "not a plain file")
    if (found := path.stat().st_size) != size:
        raise FileFormatError(path, f"{found:,} bytes, but {MANIFEST} says {size:,}: the file is damaged")


def _listed_files(folder: Path) -> list[tuple[Path, int, str]]:
    """Path, size and digest of each file in the manifest, which must list what is there and nothing else."""
    manifest = folder / MANIFEST
    if not folder.is_dir():
        raise InputMissingError(f"{folder}: no such folder; check the path")
    try:
        with open(manifest, "rb") as file:
            data = file.read(MOST_MANIFEST_BYTES)
        record = json.loads(data)
        listed = {name: (entry["size"], entry["sha256"]) for name, entry in record["files"].items()}
        form, canonical = record["format"], _manifest_bytes(record["files"])
    except OSError as problem:
        raise FileFormatError(
            manifest, f"cannot be read ({_why(problem)}): the folder is incomplete"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FileFormatError(manifest, "not a manifest: the file is damaged") from None
    if form != FORMAT or type(form) is not int:
        raise FileFormatError(
            manifest, f"format {form!r}, but this version reads {FORMAT}; use a newer cutaway"
        )
    if canonical != data:
        raise FileFormatError(manifest, "not written as Cutaway writes it: the file is damaged")
    found = {path.relative_to(folder).as_posix() for path in _files(folder)} - {MANIFEST}
    for name in sorted(listed.keys() - found):
        raise FileFormatError(folder / name, f"missing, but in {MANIFEST}: the folder is incomplete")
    for name in sorted(found - listed.keys()):
        raise FileFormatError(folder / name, f"not in {MANIFEST}: remove it, it does not belong here")
    return [(folder / name, *listed[name]) for name in sorted(listed)]
