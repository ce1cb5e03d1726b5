"""From a path or a hub id to a folder on this machine.

What is a path here is one, whatever else it may be. A hub id is first looked for in the cache that Hugging
Face's programs share. Only OWNER/NAME is fetched, where HF_HUB_OFFLINE is not set and no folder OWNER is
here: a path that was mistyped asks no server.
"""

import os
import re
from pathlib import Path

from cutaway.errors import FileFormatError, InputMissingError, MissingExtraError

NAME = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}")
REVISION = re.compile(r"[0-9a-f]{40}")
YES = {"1", "true", "yes", "on"}
CONFIG = "config.json"
WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.jinja")  # and never a pickle


def local_folder(path: str | Path) -> Path:
    """The folder with a config.json that a path or a hub id means.

    Raises InputMissingError where there is none, FileFormatError for a file or a cache that is damaged.
    """
    folder = Path(path)
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise InputMissingError(f"{folder}: has no {CONFIG}; give the folder of a model")
        return folder
    if folder.exists():
        raise InputMissingError(f"{folder}: is a file; give the folder that {CONFIG} lies in")
    name = str(path)
    if isinstance(path, Path) or not NAME.fullmatch(name) or ".." in name:
        raise InputMissingError(f"{path}: no such folder, nor the name of a model on the hub; check it")
    cached = cached_folder(name)
    if cached is not None and (offline() or (cached / CONFIG).is_file()):
        return cached
    if offline():
        told = f"not in {cache()}, and HF_HUB_OFFLINE forbids to fetch it"
        raise InputMissingError(f"{name}: no such folder, {told}")
    if not may_be_fetched(name):
        raise InputMissingError(
            f"{name}: no such folder; check the path, or give OWNER/NAME of a model on the hub"
        )
    return fetch(name)


def means_model(path: str | Path) -> bool:
    """Whether a path, or what may be a hub id, means a published model and no run of ours."""
    folder = Path(path)
    if folder.exists():
        return (folder / CONFIG).is_file() and not (folder / "spec.json").is_file()
    return (
        not isinstance(path, Path)
        and bool(NAME.fullmatch(path))
        and (cached_folder(path) is not None or may_be_fetched(path))
    )


def may_be_fetched(name: str) -> bool:
    """Whether a name can only mean a model on the hub: OWNER/NAME, where OWNER is no folder of somebody's."""
    owner = Path(name).parent
    return "/" in name and not owner.exists() and owner.name != "runs"


def offline() -> bool:
    """Whether fetching is forbidden."""
    return any(os.environ.get(name, "").lower() in YES for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def cache() -> Path:
    """Where Hugging Face's programs keep what they fetched."""
    shared = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(os.environ.get("HF_HOME") or shared / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()


def cached_folder(name: str) -> Path | None:
    """The snapshot of a model that its main branch named last, None where it was never fetched."""
    own = cache() / f"models--{name.replace('/', '--')}"
    reference = own / "refs" / "main"
    if not reference.is_file():
        return None
    revision = reference.read_bytes()[:64].decode("ascii", "replace").strip()
    if not REVISION.fullmatch(revision):
        raise FileFormatError(
            reference, "names no revision; remove the model from the cache and fetch it again"
        )
    found = own / "snapshots" / revision
    return found if found.is_dir() else None


def fetch(name: str) -> Path:
    """Fetches a model's config, weights and tokenizer; raises InputMissingError where that fails."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise MissingExtraError("hf") from None
    try:
        return Path(snapshot_download(name, allow_patterns=list(WANTED)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as problem:
        told = str(problem).strip().split("\n")[0]
        raise InputMissingError(f"{name}: cannot be fetched from the hub ({told}); check the name") from None
