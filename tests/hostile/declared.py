"""Run by test_limits in a process of its own: reads small files that declare huge shapes, with little memory.

Its argument is a folder. It prints, for each file, how reading ended and how long that took, as JSON.
"""

import json
import resource
import struct
import sys
import time
from pathlib import Path

from cutaway.errors import CutawayError
from cutaway.weights.gguf import hugging_face, read_gguf
from cutaway.weights.inspect import inspect
from cutaway.weights.llama2c import read_llama2c
from cutaway.weights.safe import read_tensors
from tests.hostile.fuzz import memory
from tests.hostile.gguf_files import U64, with_key, with_tensor
from tests.hostile.safetensors_files import only

ROOM = 256 * 2**20
POWERS = range(20, 63)
SIZES = ("llama.block_count", "llama.embedding_length", "llama.feed_forward_length", "llama.context_length")
SIZES += ("llama.attention.head_count", "llama.attention.head_count_kv", "llama.vocab_size")
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 8,
}


def read_model(path: Path) -> None:
    hugging_face(read_gguf(path))[1]()


def files():
    """Name, bytes and reader of every file."""
    for power in POWERS:
        for shape in ([2**power], [2 ** (power // 2), 2 ** (power - power // 2)], [0, 2**power]):
            told = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * 2**power if shape[0] else 0]}
            if shape[0] or power > 48:  # below, a shape without numbers is harmless
                yield f"safetensors {shape}", only(told, b"\0" * 16), read_tensors
        yield f"gguf 2^{power}", with_tensor(dims=(2**power,)), read_gguf
        yield f"gguf rows 2^{power}", with_tensor(dims=(32, 2 ** (power - 5))), read_gguf
        for key in SIZES:
            if key != "llama.context_length" or power > 30:  # it gives no tensor its shape
                yield f"gguf {key} 2^{power}", with_key(key, U64, 2**power), read_model
    for power in range(20, 31):
        for place in range(7):
            numbers = [8, 8, 1, 2, 1, 8, 8]
            numbers[place] = 2**power
            yield f"llama2.c {numbers}", struct.pack("<7i", *numbers) + b"\0" * 4096, read_llama2c


def folders(parent: Path):
    """A folder for each size of a config, with weights of 16 bytes."""
    for power in POWERS:
        for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"):
            folder = parent / f"{key}-{power}"
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps(CONFIG | {key: 2**power}))
            small = only({"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, b"\0" * 16)
            (folder / "model.safetensors").write_bytes(small)
            yield folder


def noted(folder: Path) -> None:
    """Looks into a folder; the note that it cannot be loaded counts as the refusal."""
    (note,) = inspect(folder).notes
    assert note.startswith("cannot be loaded"), note
    raise CutawayError(note)


def ended(read, path: Path) -> tuple[str, float]:
    start = time.thread_time()
    try:
        read(path)
        how = "read"
    except CutawayError:
        how = "refused"
    except BaseException as problem:
        how = repr(problem)[:200]
    return how, time.thread_time() - start


def main() -> None:
    folder = Path(sys.argv[1])
    prepared = list(folders(folder))
    ended(noted, prepared[0])  # what is imported late is now here
    resource.setrlimit(resource.RLIMIT_AS, (memory()[0] + ROOM, resource.RLIM_INFINITY))
    found = {}
    for name, data, read in files():
        (folder / "x").write_bytes(data)
        found[name] = ended(read, folder / "x")
    for made in prepared:
        found[made.name] = ended(noted, made)
    try:
        bytearray(2 * ROOM)
    except MemoryError:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
