"""Mutated files by the thousand: `python -m tests.hostile.fuzz safetensors|gguf [--n 100000] [--seed 0]`.

Every file is either read, and then as another reader reads it, or refused with a FileFormatError. The process
allows itself little more memory than it has at the start; what crashes or hangs ends it.
"""

import argparse
import json
import random
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import gguf as library
import numpy as np
import torch

from cutaway.errors import FileFormatError
from cutaway.weights.gguf import hugging_face, read_gguf
from cutaway.weights.safe import read_tensors
from tests.hostile import gguf_files, safetensors_files

ROOM = 512 * 2**20  # of addresses, more than before the first file


@dataclass(frozen=True)
class Figures:
    """What became of `files` mutated files: `models` are the GGUF files that are also a whole model of ours.

    `slowest` is the longest CPU time of one file, in seconds, `grown` by how much memory grew in all, in MiB.
    """

    files: int
    read: int
    refused: int
    models: int
    rules: int
    slowest: float
    seconds: float
    grown: int


def memory() -> tuple[int, int]:
    """Addresses and resident memory of this process, in bytes."""
    pages = Path("/proc/self/statm").read_text().split()
    return int(pages[0]) * resource.getpagesize(), int(pages[1]) * resource.getpagesize()


def read_safetensors(path: Path, data: bytes) -> bool:
    """Reads a file twice, with ours and by the plainest means there are; True for a whole model."""
    tensors = read_tensors(path)
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    assert header.keys() == tensors.keys()
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = data[8 + length + begin : 8 + length + end]
        assert list(tensors[name].shape) == entry["shape"]
        assert tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() == raw
    return False


def read_model(path: Path, data: bytes) -> bool:
    """Reads a file with ours and the library's reader; True where it is also a model, which is read too."""
    found = read_gguf(path)
    theirs = library.GGUFReader(path)
    assert found.metadata.keys() == {key for key in theirs.fields if not key.startswith("GGUF.")}
    assert found.tensors.keys() == {tensor.name for tensor in theirs.tensors}
    for tensor in theirs.tensors:
        info = found.tensors[tensor.name]
        shape = tuple(reversed(tensor.shape.tolist()))
        assert (info.shape, info.kind.name) == (shape, tensor.tensor_type.name)
        assert (info.begin, info.end - info.begin) == (tensor.data_offset, tensor.n_bytes)
    try:
        _, tensors = hugging_face(found)
        made = tensors()
    except FileFormatError:
        return False
    for tensor in theirs.tensors:
        if tensor.name == "token_embd.weight":
            values = library.dequantize(tensor.data, tensor.tensor_type)
            assert np.array_equal(made["model.embed_tokens.weight"].numpy(), values, equal_nan=True)
    return True


KINDS = {
    "safetensors": (safetensors_files.mutated, read_safetensors),
    "gguf": (gguf_files.mutated, read_model),
}


def campaign(kind: str, files: int, seed: int = 0) -> Figures:
    """Makes and reads so many files. Whatever is not a FileFormatError comes out, the file kept beside."""
    make, read = KINDS[kind]
    found: Counter[str] = Counter()
    rules: set[str] = set()
    slowest, begin = 0.0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x.{kind}"
        before = 0
        for number in range(files):
            if number == 100:  # by now everything that is imported late is here
                addresses, before = memory()
                resource.setrlimit(resource.RLIMIT_AS, (addresses + ROOM, resource.RLIM_INFINITY))
            data = make(random.Random(f"{kind} {seed} {number}"))
            path.write_bytes(data)
            start = time.thread_time()
            try:
                found["models"] += read(path, data)
                found["read"] += 1
            except FileFormatError as refused:
                assert refused.path == path and refused.rule and len(refused.rule) < 500
                rules.add("".join(letter for letter in refused.rule if letter.isalpha())[:24])
                found["refused"] += 1
            except BaseException:
                kept = Path(tempfile.gettempdir()) / f"cutaway-fuzz-{seed}-{number}.{kind}"
                kept.write_bytes(data)
                print(f"{kept}: seed {seed}, number {number}", file=sys.stderr)
                raise
            slowest = max(slowest, time.thread_time() - start)
        grown = max(0, memory()[1] - before) // 2**20 if before else 0
    seconds = time.monotonic() - begin
    told = (found[name] for name in ("read", "refused", "models"))
    return Figures(files, *told, len(rules), round(slowest, 4), round(seconds, 1), grown)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("kind", choices=KINDS)
    asked.add_argument("--n", type=int, default=100_000)
    asked.add_argument("--seed", type=int, default=0)
    options = asked.parse_args()
    print(json.dumps(asdict(campaign(options.kind, options.n, options.seed))))


if __name__ == "__main__":
    main()
