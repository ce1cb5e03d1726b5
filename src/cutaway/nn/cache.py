"""What decoding remembers: keys and values, passed in and never stored on a module.

B batch   L new position   M memory position   G key/value head   K head width
"""

import torch
from torch import Tensor


class Cache:
    """Keys and values one attention has computed so far, in a buffer that grows by doubling.

    The first buffer has room for `reserved` positions, where that is more than needed at once.
    """

    complete = False

    def __init__(self) -> None:
        self.length = 0
        self.reserved = 0
        self._k: Tensor | None = None
        self._v: Tensor | None = None

    def extend(self, k_BGLK: Tensor, v_BGLK: Tensor) -> tuple[Tensor, Tensor]:
        """Append new keys and values and return all of them (B, G, M, K)."""
        end = self.length + k_BGLK.size(2)
        if self._k is None or self._v is None or end > self._k.size(2):
            self._k, self._v = (
                grow(old, new, self.length, max(end, self.reserved))
                for old, new in ((self._k, k_BGLK), (self._v, v_BGLK))
            )
        self._k[:, :, self.length : end] = k_BGLK
        self._v[:, :, self.length : end] = v_BGLK
        self.length = end
        return self.known()

    def known(self) -> tuple[Tensor, Tensor]:
        """All keys and values so far, (B, G, M, K) each."""
        assert self._k is not None and self._v is not None
        return self._k[:, :, : self.length], self._v[:, :, : self.length]

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order."""
        if self._k is not None and self._v is not None:
            self._k, self._v = (chosen(old, rows, self.length) for old in (self._k, self._v))

    def truncate(self, length: int) -> None:
        """Forget everything from position `length` on."""
        self.length = min(self.length, length)


class MemoryCache(Cache):
    """Keys and values of an encoder's output: computed at the first step, complete from then on."""

    def extend(self, k_BGLK: Tensor, v_BGLK: Tensor) -> tuple[Tensor, Tensor]:
        self.complete = True
        return super().extend(k_BGLK, v_BGLK)

    def truncate(self, length: int) -> None:
        """The memory does not depend on what was decoded."""


def grow(old: Tensor | None, new_BGLK: Tensor, length: int, need: int) -> Tensor:
    """A buffer with room for `need` positions, as many more where there was one before, and its first
    `length`.
    """
    B, G, _, K = new_BGLK.shape
    room = max(64, need if old is None else 2 * need)
    buffer = torch.empty(B, G, room, K, dtype=new_BGLK.dtype, device=new_BGLK.device)
    if old is not None:
        buffer[:, :, :length] = old[:, :, :length]
    return buffer


def chosen(old_BGMK: Tensor, rows: Tensor, length: int) -> Tensor:
    """A buffer of the same room with the first `length` positions of these rows: the rest holds nothing."""
    buffer = old_BGMK.new_empty(len(rows), *old_BGMK.shape[1:])
    torch.index_select(old_BGMK[:, :, :length], 0, rows, out=buffer[:, :, :length])
    return buffer


class State:
    """What a step of decoding starts from: a cache for each depth, and where each row of the batch begins.

    `start_B` counts the padding in front of each row; a token's position is its place minus that.
    """

    def __init__(self, layers: int, start_B: Tensor | None = None):
        self.layers = [Cache() for _ in range(layers)]
        self.cross = [MemoryCache() for _ in range(layers)]
        self.start_B = start_B
        self.length = 0
        self.ends_B: Tensor | None = None  # where padding was given, whether a row ends in a real token
        self.memory_BMD: Tensor | None = None
        self.memory_padding_BM: Tensor | None = None
        self.together = (
            1  # neighbouring rows that read one memory, of which `cross` holds keys and values once
        )

    def positions(self, new: int, device: torch.device) -> Tensor:
        """Positions (B or 1, L) of the next `new` tokens; padding counts as position 0."""
        place_L = torch.arange(self.length, self.length + new, device=device)
        return place_L[None] if self.start_B is None else (place_L - self.start_B[:, None]).clamp(min=0)

    def padding(self, new: int, device: torch.device) -> Tensor | None:
        """True where a place up to the last new one holds a real token, (B, M), or None without padding."""
        if self.start_B is None:
            return None
        return torch.arange(self.length + new, device=device) >= self.start_B[:, None]

    def reserve(self, length: int) -> None:
        """Make room for this many places at the first step, so that nothing is copied as they fill."""
        for cache in self.layers:
            cache.reserved = length

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order (a beam's survivors).

        Keys and values of a memory are kept once for neighbouring rows that read the same one, where each
        memory has as many: they move only when other memories are read.
        """
        for cache in self.layers:
            cache.select(rows)
        self.start_B = None if self.start_B is None else self.start_B[rows]
        if self.memory_BMD is None:
            return
        before = len(self.memory_BMD)
        memory = rows // self.together
        if not (len(rows) == before and torch.equal(memory, torch.arange(before).to(rows) // self.together)):
            self.memory_BMD = self.memory_BMD[rows]
            self.memory_padding_BM = None if self.memory_padding_BM is None else self.memory_padding_BM[rows]
        filled = [cache for cache in self.cross if cache.complete]
        if not filled:
            return
        memories, counts = memory.unique_consecutive(return_counts=True)
        even = bool((counts == counts[0]).all())
        memories = memories if even else memory
        if not torch.equal(memories, torch.arange(before // self.together).to(rows)):
            for cache in filled:
                cache.select(memories)
        self.together = len(rows) // len(memories)

    def truncate(self, length: int) -> None:
        """Go back to `length` decoded places."""
        for cache in self.layers:
            cache.truncate(length)
        self.length = min(self.length, length)
