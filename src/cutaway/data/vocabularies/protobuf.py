"""The wire format of protocol buffers, read without a schema: fields with a number and a value.

A field begins with a varint, number * 8 + kind. Kind 0: a varint; 1: 8 bytes; 2: a length and as many bytes;
5: 4 bytes (Protocol Buffers, "Encoding"). Nothing is copied beyond what the bytes hold, and nothing recurses.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from cutaway.errors import FileFormatError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Value = int | bytes


class Reader:
    """The fields of one message, bytes `begin` to `end` of a file; FileFormatError says which is wrong."""

    def __init__(self, path: Path, data: bytes, begin: int = 0, end: int | None = None):
        self.path, self.data, self.place = path, data, begin
        self.end = len(data) if end is None else end

    def fields(self) -> Iterator[tuple[int, int, Value, int]]:
        """Number, kind, value and place of each field in turn; fixed values come as their bytes."""
        while self.place < self.end:
            place = self.place
            number, kind = divmod(self._varint(), 8)
            if not 0 < number < 2**29:
                raise FileFormatError(self.path, f"field number {number}: not a protocol buffer", place)
            if kind == VARINT:
                yield number, kind, self._varint(), place
                continue
            if kind == BYTES:
                size = self._varint()
            elif kind in (FIXED64, FIXED32):
                size = 8 if kind == FIXED64 else 4
            else:
                raise FileFormatError(self.path, f"field {number} is of unknown kind {kind}", place)
            if size > self.end - self.place:
                left = self.end - self.place
                raise FileFormatError(
                    self.path, f"field {number} claims {size:,} bytes, but {left:,} are left", place
                )
            self.place += size
            yield number, kind, self.data[self.place - size : self.place], place

    def _varint(self) -> int:
        value = 0
        begin = self.place
        for shift in range(0, 70, 7):
            if self.place >= self.end:
                raise FileFormatError(self.path, "ends in the middle of a number; fetch it again", begin)
            byte = self.data[self.place]
            self.place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & (2**64 - 1)
        raise FileFormatError(self.path, "a number of more than 10 bytes; not a protocol buffer", begin)


def as_float(value: Value) -> float:
    """The number of four bytes."""
    assert isinstance(value, bytes)
    return struct.unpack("<f", value)[0]


def as_signed(value: Value) -> int:
    """The int32 of a varint: negative ones are written as 64 bits."""
    assert isinstance(value, int)
    return value - 2**64 if value >= 2**63 else value
