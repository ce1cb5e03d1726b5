"""Pickles that make a folder when somebody unpickles them, in every way we know, and archives that hold one.

Nothing here is dangerous: the folder's name is given by the test, and making it is all they do.
"""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable


def text(word: str) -> bytes:
    """The opcode of a short string."""
    return b"\x8c" + bytes((len(word),)) + word.encode()


def long_text(word: str) -> bytes:
    raw = word.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


class Reduced:
    """Pickled as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def code(canary: str) -> str:
    return f"__import__('os').mkdir({canary!r})"


def plain(canary: str) -> dict[str, bytes]:
    """Pickles by name; `pickle.loads` of each makes the canary."""
    import os
    import runpy

    script = f"{canary}.py"
    with open(script, "w", encoding="utf-8") as file:
        file.write(f"import os\nos.mkdir({canary!r})\n")
    call = b"\x80\x04" + text("os") + text("mkdir") + b"\x93" + long_text(canary) + b"\x85R"
    old = f"cos\nmkdir\n(S{canary!r}\ntR.".encode()
    memo = b"\x80\x04" + text("mkdir") + b"\x94" + text("os") + b"\x94" + b"0h\x01h\x00\x93"
    reduced = {
        f"reduce, protocol {protocol}": pickle.dumps(Reduced(os.mkdir, canary), protocol)
        for protocol in range(6)
    }
    return reduced | {
        "opcodes of protocol 0": old,
        "an instance (INST)": f"(S{canary!r}\nios\nmkdir\n.".encode(),
        "an object (OBJ)": f"(cos\nmkdir\nS{canary!r}\no.".encode(),
        "a stack global": call + b".",
        "a stack global out of the memo": memo + long_text(canary) + b"\x85R.",
        "no end": call,
        "bytes behind the end": call + b"." + b"\0" * 64,
        "something harmless first": b"\x80\x04}0" + call[2:] + b"0}.",
        "in a table": b"\x80\x04}" + text("weight") + call[2:] + b"s.",
        "build": state_set(canary),
        "eval": pickle.dumps(Reduced(eval, code(canary))),
        "exec": pickle.dumps(Reduced(exec, code(canary))),
        "runpy": pickle.dumps(Reduced(runpy.run_path, script)),
        "resolve_name": resolved(canary),
        "a pickle in a pickle": pickle.dumps(Reduced(pickle.loads, call + b".")),
        "the state of an optimiser": pickle.dumps({"state": {0: {"step": Reduced(os.mkdir, canary)}}}),
        "torch's old magic": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + call + b".",
    }


def resolved(canary: str) -> bytes:
    """pkgutil.resolve_name("os:mkdir")(canary), as opcodes."""
    found = b"\x80\x04" + text("pkgutil") + text("resolve_name") + b"\x93" + text("os:mkdir") + b"\x85R"
    return found + long_text(canary) + b"\x85R."


def state_set(canary: str) -> bytes:
    """An object whose __setstate__, taken from the pickle, is os.mkdir: BUILD calls it."""
    made = b"\x80\x04" + text("types") + text("SimpleNamespace") + b"\x93)\x81"
    table = b"}" + text("__setstate__") + text("os") + text("mkdir") + b"\x93s"
    return made + table + b"b" + long_text(canary) + b"b."


def zipped(data: bytes, name: str = "archive/data.pkl") -> bytes:
    """A zip archive as torch.save writes one."""
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w") as archive:
        archive.writestr(name, data)
        archive.writestr("archive/version", "3\n")
    return kept.getvalue()


def wrapped(canary: str) -> dict[str, bytes]:
    """Archives and arrays around a pickle."""
    inside = plain(canary)["reduce, protocol 4"]
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        line = tarfile.TarInfo("pickle")
        line.size = len(inside)
        archive.addfile(line, io.BytesIO(inside))
    shape = "{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + "\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(shape)) + shape.encode() + inside
    header = json.dumps({"x": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    safe = struct.pack("<Q", len(header)) + header + b"\0" * 4
    return {
        "a zip archive": zipped(inside),
        "a zip archive in a zip archive": zipped(zipped(inside), "archive/model.pt"),
        "a 7z archive": b"7z\xbc\xaf\x27\x1c\x00\x04" + inside,
        "a gzip archive": gzip.compress(inside),
        "a tar archive": tar.getvalue(),
        "an array of objects": array,
        "an archive of arrays": zipped(array, "x.npy"),
        "safetensors and zip at once": safe + zipped(inside),
        "GGUF and zip at once": b"GGUF" + struct.pack("<IQQ", 3, 2**40, 0) + zipped(inside),
    }
