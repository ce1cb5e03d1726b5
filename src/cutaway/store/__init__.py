"""Writing so that a crash, a full disk or a power cut leaves the old or the new, never neither, never half.

Every folder goes write, fsync files, fsync folder, rename, fsync parent, and carries a `manifest.json` with
the size and SHA-256 of each file; a single file goes the same way without the manifest. A folder, once there,
is never written again: what changes gets a new name. `DirectoryLock` lets one process at a time work in a
directory. What others wrote is read within bounds, JSON strictly (`read_file`, `read_object`).
"""

from cutaway.store.disk import Failure, not_saved
from cutaway.store.files import (
    append_line,
    keep_lines,
    read_file,
    read_lines,
    stream_file,
    sync_file,
    write_file,
)
from cutaway.store.folders import MANIFEST, sweep, verify_folder, verify_sizes, write_folder
from cutaway.store.lock import DirectoryLock
from cutaway.store.strict_json import read_json, read_many, read_object, told

__all__ = [
    "MANIFEST",
    "DirectoryLock",
    "Failure",
    "append_line",
    "keep_lines",
    "not_saved",
    "read_file",
    "read_json",
    "read_lines",
    "read_many",
    "read_object",
    "stream_file",
    "sweep",
    "sync_file",
    "told",
    "verify_folder",
    "verify_sizes",
    "write_file",
    "write_folder",
]
