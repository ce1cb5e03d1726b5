"""Pickled files are recognised and refused: to unpickle is to run whatever program the file holds.

Nothing here looks into one. A scanner would be beaten; not opening the file cannot be.
"""

from pathlib import Path
from typing import NoReturn

from cutaway.errors import FileFormatError

ENDINGS = frozenset((".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".mar", ".dill"))
FOLDER_NAMES = ("pytorch_model.bin", "pytorch_model.bin.index.json")  # of a Hugging Face folder
WAY_OUT = (
    "Cutaway never unpickles, because that runs the program a pickle holds. Get the model as safetensors, or "
    "let transformers write it, where its code may run: from_pretrained(FOLDER).save_pretrained(NEW)"
)
# The first bytes of a file, and what it then is.
_MAGIC = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes"),
    (b"PK\x05\x06", "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"\x93NUMPY", "a NumPy file"),
    *((bytes((0x80, protocol)), "a pickle") for protocol in range(2, 6)),
)


def pickled(path: Path, first: bytes) -> str | None:
    """What kind of pickled file, or archive that may hold one, name and first bytes tell of; None if none."""
    for magic, kind in _MAGIC:
        if first.startswith(magic):
            return kind
    if Path(path).suffix.lower() in ENDINGS or Path(path).name in FOLDER_NAMES:
        return "a pickled file by its name"
    return None


def check_not_pickled(path: Path, first: bytes) -> None:
    """Raises FileFormatError, with the way out, where name or first bytes tell of a pickled file."""
    if kind := pickled(path, first):
        refuse_pickled(path, kind)


def refuse_pickled(path: Path, kind: str) -> NoReturn:
    """Raises the FileFormatError of a pickled file, which names the way out."""
    raise FileFormatError(path, f"{kind}: {WAY_OUT}")


def refuse_pickled_folder(folder: Path) -> None:
    """Raises FileFormatError where a folder holds pickled weights: for one that holds no others."""
    for path in sorted(Path(folder).iterdir()):
        if path.suffix.lower() in (".pt", ".pth", ".ckpt") or path.name.startswith("pytorch_model"):
            refuse_pickled(path, "the only weights here are pickled")
