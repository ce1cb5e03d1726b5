"""The rules a sentencepiece model rewrites characters by: byte strings and the texts they become.

Four bytes with the size of a trie, the trie as a double array of 32-bit units (Yata's Darts-clone), then the
texts, each with a NUL behind it. The library that applies the rules trusts every offset, so every node that
it can reach is looked at here before, many at a time, each once.
"""

from pathlib import Path

import numpy as np

from cutaway.errors import FileFormatError

AT_ONCE = 4_096  # nodes, which bounds the memory
LABELS = np.arange(1, 256)


def check_charsmap(path: Path, data: bytes) -> None:
    """Raises FileFormatError where a rule can lead outside the map, or to something that is no text."""
    units, texts = parts_of(path, data)
    begins = np.frombuffer(texts, np.uint8) & 0xC0 != 0x80
    seen = np.zeros(len(units), bool)
    waiting = [_offset(units[:1])]
    while waiting:
        nodes = waiting.pop()
        if (nodes | 255).max() >= len(units):
            raise FileFormatError(path, "precompiled_charsmap: the trie leads outside itself")
        children = nodes[:, None] ^ LABELS
        places = children[(units[children] & 0x800000FF) == LABELS]
        nodes = places ^ _offset(units[places])
        leaves = nodes[(units[places] >> 8) & 1 == 1]
        if len(leaves):
            if leaves.max() >= len(units):
                raise FileFormatError(path, "precompiled_charsmap: the trie leads outside itself")
            at = units[leaves] & 0x7FFFFFFF
            if at.max() >= len(texts) or not begins[at].all():
                raise FileFormatError(
                    path, f"precompiled_charsmap: a rule leads to byte {at.max():,} of texts"
                )
        fresh = np.unique(nodes)
        fresh = fresh[(fresh >= len(units)) | ~seen[np.minimum(fresh, len(units) - 1)]]
        seen[fresh[fresh < len(units)]] = True
        waiting += [fresh[first : first + AT_ONCE] for first in range(0, len(fresh), AT_ONCE)]


def parts_of(path: Path, data: bytes) -> tuple[np.ndarray, bytes]:
    """The units of the trie and the texts; FileFormatError where the map has no such parts."""
    size = int.from_bytes(data[:4], "little")
    if len(data) < 4 or size % 4 or not 4 <= size < len(data) - 4:
        raise FileFormatError(path, f"precompiled_charsmap: a trie of {size:,} bytes in {len(data):,} bytes")
    texts = data[4 + size :]
    if not texts.endswith(b"\0"):
        raise FileFormatError(path, "precompiled_charsmap: the last text does not end")
    try:
        texts.decode("utf-8")
    except UnicodeDecodeError:
        raise FileFormatError(path, "precompiled_charsmap: a text is not UTF-8") from None
    return np.frombuffer(data[4 : 4 + size], "<u4").astype(np.int64), texts


def _offset(units: np.ndarray) -> np.ndarray:
    return (units >> 10) << ((units & 512) >> 6)
