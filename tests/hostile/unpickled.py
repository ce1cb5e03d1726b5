"""Run by test_pickles in a process of its own: reads payloads with everything that reads, and listens.

Its arguments are a folder and "read" or, for the control, "unpickle". It prints what it heard as JSON.
"""

import io
import json
import pickle
import sys
from pathlib import Path

import cutaway
from cutaway.data.loading import load_tokenizer
from cutaway.errors import CutawayError
from cutaway.spec.read import read_table
from cutaway.weights.gguf import hugging_face, read_gguf
from cutaway.weights.inspect import inspect
from cutaway.weights.llama2c import read_llama2c, read_vocabulary
from cutaway.weights.safe import read_tensors
from cutaway.weights.shards import read_shards
from tests.hostile.gguf_files import but
from tests.hostile.payloads import plain, wrapped
from tests.hostile.safetensors_files import GOOD, packed

READERS = {
    "read_tensors": read_tensors,
    "read_gguf": read_gguf,
    "read_llama2c": read_llama2c,
    "read_vocabulary": lambda path: read_vocabulary(path, 512),
    "read_shards": read_shards,
    "read_table": read_table,
    "load_tokenizer": load_tokenizer,
    "inspect": inspect,
    "load": cutaway.load,
}
NAMES = (
    *("x.safetensors", "x.gguf", "pytorch_model.bin", "x.bin", "x.pt", "x.pth", "x.ckpt", "x.pkl", "x.npz"),
    *("config.json", "tokenizer.json", "model.safetensors.index.json", "spec.json", "x.model", "model"),
)
WATCHED = ("exec", "compile", "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.", "socket.")
WATCHED += ("pickle.", "os.mkdir", "marshal.", "shutil.", "urllib.", "webbrowser.")


class Ear:
    """Hears every audit event while it listens, and keeps those that reading must not cause."""

    def __init__(self):
        self.listening = False
        self.heard: list[str] = []
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple) -> None:
        if not self.listening:
            return
        new = event == "import" and arguments[0] not in sys.modules
        foreign = event == "ctypes.dlopen" and arguments[0] is not None  # None: malloc, which load adjusts
        if new or foreign or event.startswith(WATCHED):
            self.heard.append(f"{event} {str(arguments[:1])[:80]}")


def tried(reader, path: Path) -> str:
    """How reading a path ended: the name of our error, or of another, or read."""
    try:
        reader(path)
    except CutawayError:
        return "refused"
    except Exception as problem:
        return repr(problem)[:200]
    return "read"


def warm_up(folder: Path) -> None:
    """Everything once, well and badly, so that nothing is imported later."""
    good = {
        "x.safetensors": packed(GOOD),
        "x.gguf": but(),
        "x.json": b"{}",
        "x.bin": bytes(99),
        "y.json": b"x",
    }
    for name, data in good.items():
        (folder / name).write_bytes(data)
        for reader in READERS.values():
            tried(reader, folder / name)
    hugging_face(read_gguf(folder / "x.gguf"))[1]()
    for reader in READERS.values():
        tried(reader, folder)
        tried(reader, folder / "none")


def main() -> None:
    folder, how = Path(sys.argv[1]), sys.argv[2]
    (folder / "warm").mkdir()
    warm_up(folder / "warm")
    ear, outcomes = Ear(), {}
    canary = folder / "canary"
    payloads = plain(str(canary)) | (wrapped(str(canary)) if how == "read" else {})
    for number, (kind, data) in enumerate(payloads.items()):
        place = folder / str(number)
        place.mkdir()
        ear.heard.clear()
        ended: set[str] = set()
        if how == "read":
            for name in NAMES:
                (place / name).write_bytes(data)
            ear.listening = True
            for reader in READERS.values():
                ended |= {tried(reader, path) for path in (*(place / name for name in NAMES), place)}
            ear.listening = False
        else:
            ear.listening = True
            try:
                file = io.BytesIO(data)
                while file.tell() < len(data):  # torch's old files are several, one after the other
                    pickle.load(file)
            except Exception as problem:
                ended.add(repr(problem))
            ear.listening = False
        outcomes[kind] = {"ended": sorted(ended), "heard": list(ear.heard), "canary": canary.exists()}
        if canary.exists():
            canary.rmdir()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
