"""Writing so that a crash, a full disk or a power cut leaves the old or the new, never neither, never half.

Every folder goes write, fsync files, fsync folder, rename, fsync parent, and carries a `manifest.json` with
the size and SHA-256 of each file; a single file goes the same way without the manifest. A folder, once there,
is never written again: what changes gets a new name. `DirectoryLock` lets one process at a time work in a
directory.
"""

from cutaway.store.disk import Failure, not_saved
from cutaway.store.files import append_line, keep_lines, read_lines, stream_file, sync_file, write_file
from cutaway.store.folders import MANIFEST, sweep, verify_folder, verify_sizes, write_folder
from cutaway.store.lock import DirectoryLock

__all__ = [
    "MANIFEST",
    "DirectoryLock",
    "Failure",
    "append_line",
    "keep_lines",
    "not_saved",
    "read_lines",
    "stream_file",
    "sweep",
    "sync_file",
    "verify_folder",
    "verify_sizes",
    "write_file",
    "write_folder",
]
