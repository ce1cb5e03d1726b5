"""The parts of our fast models against algorithms 1 to 7 as `cutaway.formal` has them.

The paper's columns are our rows, its Mask [context, primary] is our mask [query, memory] transposed. Each
equality holds to 1e-10 in float64 and 1e-5 in float32, and each mistake planted below ends it.
"""

import itertools
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from cutaway import formal, nn, spec
from cutaway.nn.mask import Mask, settle
from cutaway.tap import Recorder, Scale
from tests.parity import drawn, theta
from tests.parity.drawn import NOTICED, TOLERANCE, WIDTH, X, both_precisions, every_count_of_heads, gap
from tests.unit.formal.random_weights import draw_heads

# Algorithms 1, 2, 6, 7: the parts ---------------------------------------------------------------------------


@both_precisions
def test_token_and_positional_embedding(dtype):
    model = drawn.make(drawn.decoder(), dtype=dtype)
    recorder = Recorder(["input.token", "input.position", "input.out"])
    model(torch.tensor([X]), tap=recorder)
    W = theta.decoder_of(model)
    token, position, whole = (recorder.seen[f"input.{name}"][0] for name in ("token", "position", "out"))
    places = range(len(X))
    assert gap(token, np.stack([formal.token_embedding(v, W.W_e) for v in X], 1)) == 0
    assert gap(position, np.stack([formal.positional_embedding(t, W.W_p) for t in places], 1)) == 0
    assert gap(whole, formal.embed(X, W.W_e, W.W_p)) < TOLERANCE[dtype]
    assert gap(position, np.stack([formal.positional_embedding(t + 1, W.W_p) for t in places], 1)) > 0.1


NORMS = {"layer_norm": spec.LayerNorm(eps=0.0), "RMSnorm": spec.RMSNorm(eps=0.0)}


@both_precisions
@pytest.mark.parametrize("name", NORMS)
def test_norms(name, dtype):
    norm = drawn.redraw(nn.part(NORMS[name], WIDTH), 1, dtype)
    x = torch.randn(5, WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(2))
    weights = [theta.value(p) for p in norm.parameters()]
    columns = x.double().numpy().T

    def paper(columns: np.ndarray) -> np.ndarray:
        return np.stack([getattr(formal, name)(e, *weights) for e in columns.T], axis=1)

    assert gap(norm(x), paper(columns)) < TOLERANCE[dtype]
    unbiased = columns + (1 - np.sqrt(1 - 1 / WIDTH)) * (columns - columns.mean(0))
    assert gap(norm(x) * np.sqrt(1 - 1 / WIDTH), paper(unbiased)) > NOTICED
    other = drawn.redraw(nn.part(replace(NORMS[name], eps=1e-5), WIDTH), 1, dtype)
    assert dtype == torch.float32 or gap(other(x), paper(columns)) > NOTICED


# Algorithms 4 and 5: attention under every mask -------------------------------------------------------------


def every_mask(l_z: int, l_x: int) -> np.ndarray:
    """All of them, (masks, l_z, l_x), as the paper has them."""
    bits = list(itertools.product((0, 1), repeat=l_z * l_x))
    return np.array(bits).reshape(-1, l_z, l_x)


def as_ours(masks: np.ndarray) -> Mask:
    """The paper's masks, one for each row of a batch."""
    allowed = torch.from_numpy(masks.astype(bool)).mT[:, None]
    return Mask(False, allowed, None, ~allowed.any(-1, keepdim=True))


def named_masks(l_z: int, l_x: int) -> dict[str, tuple[Mask, np.ndarray]]:
    """The masks a stack makes, beside the paper's."""
    found = {"bidirectional": (settle("all", l_x, l_z), formal.bidirectional(l_z, l_x))}
    if l_z >= l_x:  # the queries are the last of the memory, as with a cache
        found["unidirectional"] = (settle("past", l_x, l_z), formal.unidirectional(l_z)[:, l_z - l_x :])
    if l_z == l_x:
        assert found["unidirectional"][0] == Mask(causal=True)
    return found


@dataclass
class Case:
    """An attention of random weights, what it reads, and the paper's answers for a batch of masks."""

    module: torch.nn.Module
    x: Tensor
    z: Tensor

    @classmethod
    def draw(cls, H, head_width, l_x, l_z, dtype=torch.float64):
        module = drawn.redraw(nn.part(drawn.attention(H, head_width), WIDTH), H, dtype)
        generator = torch.Generator().manual_seed(7)
        x, z = (torch.randn(1, n, WIDTH, dtype=dtype, generator=generator) for n in (l_x, l_z))
        return cls(module, x, z)

    def ours(self, mask: Mask, openly: bool = False) -> Tensor:
        """(masks, l_x, width). The open path runs where scores are edited: here by a factor of 1."""
        masks = 1 if mask.allowed is None or mask.allowed.dim() < 4 else mask.allowed.size(0)
        x, z = (side.expand(masks, -1, -1) for side in (self.x, self.z))
        one = {"scores": Scale(torch.ones((), dtype=x.dtype))}
        with torch.no_grad():
            return self.module(x, z, mask=mask, tap=Recorder((), one if openly else {}))

    def papers(self, masks: np.ndarray, W: formal.MultiHeadWeights | None = None) -> list[np.ndarray]:
        columns = [side[0].double().numpy().T for side in (self.x, self.z)]
        W = W or theta.heads_of(self.module)
        return [formal.MHAttention(*columns, W, Mask) for Mask in masks]

    def gap(self, mask: Mask, masks: np.ndarray, openly: bool = False) -> float:
        return max(map(gap, self.ours(mask, openly), self.papers(masks)))


paths = pytest.mark.parametrize("openly", [False, True], ids=["fused", "open"])
WIDTHS = [None, 3, 5]  # of a head: 3 and 5 are not width / heads


@paths
@both_precisions
@pytest.mark.parametrize("head_width", WIDTHS)
@every_count_of_heads
def test_attention_with_every_mask(H, head_width, dtype, openly):
    for l_z, l_x in ((3, 3), (2, 4), (4, 2), (1, 3)):
        case, masks = Case.draw(H, head_width, l_x, l_z, dtype), every_mask(l_z, l_x)
        assert case.gap(as_ours(masks), masks, openly) < TOLERANCE[dtype]
        hidden = ~masks.any(axis=1)
        nothing = case.ours(as_ours(masks), openly)[torch.from_numpy(hidden)]
        assert torch.equal(nothing, case.module.out.bias.detach().expand_as(nothing))  # and no NaN


@paths
@both_precisions
@every_count_of_heads
@pytest.mark.parametrize(("l_z", "l_x"), [(6, 6), (6, 2), (6, 1), (4, 6)])
def test_attention_with_the_masks_of_a_stack(l_z, l_x, H, dtype, openly):
    case = Case.draw(H, None, l_x, l_z, dtype)
    for ours, Mask_ in named_masks(l_z, l_x).values():
        assert case.gap(ours, Mask_[None], openly) < TOLERANCE[dtype]


def test_self_attention_is_attention_to_oneself():
    case = Case.draw(2, None, 6, 6)
    mask, Mask_ = named_masks(6, 6)["unidirectional"]
    ours = case.module(case.x, mask=mask)
    (theirs,) = replace(case, z=case.x).papers(Mask_[None])
    assert gap(ours[0], theirs) < 1e-10
    assert gap(ours[0], case.papers(Mask_[None])[0]) > NOTICED  # another context gives another result


ATTENTION_MISTAKES: dict[str, Callable[[Case], None]] = {
    "scores not scaled": lambda case: setattr(case.module, "scale", 1.0),
    "scaled by the model's width": lambda case: setattr(case.module, "scale", WIDTH**-0.5),
    "scale not under a root": lambda case: setattr(case.module, "scale", 1 / case.module.head_width),
    "W_k and W_q swapped": lambda case: swap(case.module.key, case.module.query),
    "W_k and W_v swapped": lambda case: swap(case.module.key, case.module.value),
    "no b_q": lambda case: case.module.query.bias.data.zero_(),
    "no b_v": lambda case: case.module.value.bias.data.zero_(),
    "no b_o": lambda case: case.module.out.bias.data.zero_(),
    "W_o transposed": lambda case: case.module.out.weight.data.copy_(case.module.out.weight.data.mT.clone()),
    "heads in another order": lambda case: case.module.out.weight.data.copy_(
        case.module.out.weight.unflatten(1, (case.module.heads, -1)).flip(1).flatten(1)
    ),
    "heads interleaved": lambda case: case.module.query.weight.data.copy_(
        case.module.query.weight.unflatten(0, (-1, case.module.heads)).transpose(0, 1).flatten(0, 1)
    ),
}


def swap(one: torch.nn.Linear, other: torch.nn.Linear) -> None:
    one.weight, other.weight = other.weight, one.weight
    one.bias, other.bias = other.bias, one.bias


@paths
@pytest.mark.parametrize("mistake", ATTENTION_MISTAKES)
def test_a_mistake_in_attention_is_noticed(mistake, openly):
    case, masks = Case.draw(2, None, 3, 3), every_mask(3, 3)
    right = case.papers(masks)
    ATTENTION_MISTAKES[mistake](case)
    assert max(map(gap, case.ours(as_ours(masks), openly), right)) > NOTICED


@paths
def test_a_mistake_in_the_mask_is_noticed(openly):
    case, masks = Case.draw(2, None, 3, 3), every_mask(3, 3)
    mask = as_ours(masks)
    transposed, opposite = mask.allowed.mT, ~mask.allowed
    for allowed in (transposed, opposite):
        wrong = Mask(False, allowed, None, ~allowed.any(-1, keepdim=True))
        assert case.gap(wrong, masks, openly) > NOTICED
    undead = case.ours(mask._replace(dead=None), openly=True)  # torch's fused kernel happens to be kind here
    assert undead.isnan().any()


def openly_in_torch(x: Tensor, z: Tensor, W: formal.MultiHeadWeights, Mask_: np.ndarray) -> Tensor:
    """Algorithm 5 with tokens in rows and d_mid of its own, which our Attention does not have."""
    found = []
    for head in W.heads:
        W_q, b_q, W_k, b_k, W_v, b_v = map(torch.from_numpy, astuple(head))
        scores = (x @ W_q.T + b_q) @ (z @ W_k.T + b_k).T / len(b_q) ** 0.5
        hidden = torch.from_numpy(Mask_.T == 0)
        pattern = scores.masked_fill(hidden, -torch.inf).softmax(-1).masked_fill(hidden.all(-1, True), 0.0)
        found.append(pattern @ (z @ W_v.T + b_v))
    return torch.cat(found, -1) @ torch.from_numpy(W.W_o).T + torch.from_numpy(W.b_o)


@every_count_of_heads
@pytest.mark.parametrize(("d_attn", "d_mid"), [(3, 4), (4, 3), (2, 7)])
def test_values_may_have_a_width_of_their_own(H, d_attn, d_mid):
    rng = np.random.default_rng(H)
    W = draw_heads(rng, H, 6, 5, d_attn, d_mid, 7)
    X_, Z_ = rng.normal(size=(6, 3)), rng.normal(size=(5, 2))
    x, z = torch.from_numpy(X_.T), torch.from_numpy(Z_.T)
    for Mask_ in every_mask(2, 3):
        theirs = formal.MHAttention(X_, Z_, W, Mask_)
        assert gap(openly_in_torch(x, z, W, Mask_), theirs) < 1e-10
    by_values = np.sqrt(d_attn / d_mid)  # the mistake: scores divided by sqrt(d_mid)
    wrong = tuple(replace(head, W_q=head.W_q * by_values, b_q=head.b_q * by_values) for head in W.heads)
    assert gap(openly_in_torch(x, z, replace(W, heads=wrong), Mask_), theirs) > NOTICED
