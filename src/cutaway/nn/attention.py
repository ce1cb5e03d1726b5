"""Multi-head attention: Algorithm 5 of Phuong & Hutter (2022), with grouped key/value heads.

B batch   L query position   M memory position   D width   H query head   K head width
G key/value head (G=H multi-head, G=1 multi-query)   E all heads side by side
"""

from torch import Tensor, nn

from cutaway import spec
from cutaway.errors import ConfigError
from cutaway.nn.attend import attend, attend_openly
from cutaway.nn.cache import Cache
from cutaway.nn.linear import Linear
from cutaway.nn.mask import Mask
from cutaway.nn.part import computes, part
from cutaway.nn.position import Rotation, rotate
from cutaway.tap import Tap, off


@computes(spec.Attention)
class Attention(nn.Module):
    """Each position of x gathers from memory what its query finds there; without memory, from x itself."""

    ends_in = "out"
    decodes = True

    def __init__(self, plan: spec.Attention, width: int):
        super().__init__()
        H, G = plan.heads, plan.kv_heads or plan.heads
        if H % G or (plan.head_width is None and width % H):
            raise ConfigError(
                f"attention: {H} heads do not divide width {width} or share {G} kv_heads evenly"
            )
        if set(plan.bias) - set("qkvo"):
            raise ConfigError(f"attention: bias {plan.bias!r} names projections other than q, k, v, o")
        K = plan.head_width or width // H
        self.heads, self.kv_heads, self.head_width = H, G, K
        self.scale = K**-0.5 if plan.scale is None else plan.scale
        self.rotary, self.window, self.cap = plan.rotary, plan.window, plan.cap
        self.dropout = 0.0
        self.query = Linear(width, H * K, bias="q" in plan.bias)
        self.key = Linear(width, G * K, bias="k" in plan.bias)
        self.value = Linear(width, G * K, bias="v" in plan.bias)
        self.out = Linear(H * K, width, bias="o" in plan.bias)
        self.query_norm = part(plan.qk_norm, K) if plan.qk_norm else None
        self.key_norm = part(plan.qk_norm, K) if plan.qk_norm else None

    def forward(
        self,
        x_BLD: Tensor,
        memory_BMD: Tensor | None = None,
        *,
        mask: Mask,
        rotation: Rotation | None = None,
        cache: Cache | None = None,
        tap: Tap = off,
    ) -> Tensor:
        """(B, L, D) -> (B, L, D). Taps q k v, {q,k}_normed, {q,k}_rotated, scores pattern, mix, out."""
        q_BHLK = tap("q", split_heads(self.query(x_BLD), self.heads))
        if self.query_norm is not None:
            q_BHLK = tap("q_normed", self.query_norm(q_BHLK))
        if rotation is not None:
            q_BHLK = tap("q_rotated", rotate(q_BHLK, rotation))
        if cache is not None and cache.complete:
            known = cache.known()
            together = q_BHLK.size(0) // known[0].size(0)
            if together > 1 and tap.wants("scores", "pattern"):  # the axes of these say whose they are
                known = known[0].repeat_interleave(together, 0), known[1].repeat_interleave(together, 0)
                together = 1
        else:
            known = self.remember(x_BLD if memory_BMD is None else memory_BMD, rotation, cache, tap)
            together = 1
        if together > 1:
            mask = of_each_memory(mask, together)
            mix_BHLK = apart(self.look(side_by_side(q_BHLK, together), *known, mask, tap), together)
        else:
            mix_BHLK = self.look(q_BHLK, *known, mask, tap)
        mix_BHLK = tap("mix", mix_BHLK)
        return tap("out", self.out(mix_BHLK.transpose(1, 2).flatten(-2)))

    def remember(
        self, source_BMD: Tensor, rotation: Rotation | None, cache: Cache | None, tap: Tap
    ) -> tuple[Tensor, Tensor]:
        """Keys and values (B, G, M, K) of the source, behind those a cache holds."""
        k_BGMK = tap("k", split_heads(self.key(source_BMD), self.kv_heads))
        if self.key_norm is not None:
            k_BGMK = tap("k_normed", self.key_norm(k_BGMK))
        v_BGMK = tap("v", split_heads(self.value(source_BMD), self.kv_heads))
        if rotation is not None:
            k_BGMK = tap("k_rotated", rotate(k_BGMK, rotation))
        return (k_BGMK, v_BGMK) if cache is None else cache.extend(k_BGMK, v_BGMK)

    def look(self, q_BHLK: Tensor, k_BGMK: Tensor, v_BGMK: Tensor, mask: Mask, tap: Tap) -> Tensor:
        """What the queries find -> (B, H, L, K)."""
        dropout = self.dropout if self.training else 0.0
        if dropout or self.cap is not None or tap.edits("scores", "pattern"):
            return attend_openly(
                q_BHLK, k_BGMK, v_BGMK, mask, self.scale, cap=self.cap, dropout=dropout, tap=tap
            )
        return attend(q_BHLK, k_BGMK, v_BGMK, mask, self.scale, tap)


def side_by_side(q_BHLK: Tensor, together: int) -> Tensor:
    """Rows that read one memory as one row with all their queries: in a beam, nothing is copied for each."""
    return q_BHLK.unflatten(0, (-1, together)).transpose(1, 2).flatten(2, 3)


def apart(mix_BHLK: Tensor, together: int) -> Tensor:
    """The rows that `side_by_side` joined."""
    return mix_BHLK.unflatten(2, (together, -1)).transpose(1, 2).flatten(0, 1)


def of_each_memory(mask: Mask, together: int) -> Mask:
    """The mask of one row for each memory: those that read the same one may look at the same places."""
    allowed, dead = (None if each is None else each[::together] for each in (mask.allowed, mask.dead))
    return mask._replace(allowed=allowed, dead=dead)


def split_heads(x_BLE: Tensor, heads: int) -> Tensor:
    """(B, L, all heads side by side) -> (B, H, L, K)."""
    return x_BLE.unflatten(-1, (heads, -1)).transpose(1, 2)
