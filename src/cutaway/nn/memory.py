"""What a writer knows of the source, and one head of dot-product attention over it (Luong et al. 2015).

B batch   L query position   M memory position   H query head, here one   K width of a key
E width of a value
"""

from typing import NamedTuple

from torch import Tensor

from cutaway.nn.attend import attend, attend_openly
from cutaway.nn.mask import Mask, settle
from cutaway.tap import Tap


class Memory(NamedTuple):
    """What scores are made from (B, M, K) and what is taken (B, M, E), a row for each position of the source.

    `padding` is True where a token is real, None where all are.
    """

    keys: Tensor
    values: Tensor
    padding: Tensor | None = None

    def select(self, rows: Tensor) -> "Memory":
        """These rows of the batch, in this order."""
        padding = None if self.padding is None else self.padding[rows]
        return Memory(self.keys[rows], self.values[rows], padding)

    def mask(self, queries: int) -> Mask:
        """The mask of this many queries: all of them see every real position."""
        return settle("all", queries, self.values.size(1), padding_BM=self.padding, device=self.values.device)


def gather(q_BLK: Tensor, memory: Memory, tap: Tap) -> Tensor:
    """What each query finds, (B, L, E); zero where there is nothing to be found.

    Scores are dot products, not scaled. Taps scores, pattern, mix, with an axis for the one head.
    """
    q_BHLK, k_BHMK, v_BHME = (x[:, None] for x in (q_BLK, memory.keys, memory.values))
    mask = memory.mask(q_BLK.size(1))
    if tap.edits("scores", "pattern"):
        mix_BHLE = attend_openly(q_BHLK, k_BHMK, v_BHME, mask, 1.0, tap=tap)
    else:
        mix_BHLE = attend(q_BHLK, k_BHMK, v_BHME, mask, 1.0, tap)
    return tap("mix", mix_BHLE)[:, 0]
