"""Every tap of a model, by name: found by a pass on the meta device, so it cannot disagree with the code."""

from functools import lru_cache

import torch
from torch import Tensor

from cutaway import spec
from cutaway.errors import TapError
from cutaway.models.build import build
from cutaway.nn.position import Learned
from cutaway.tap import Tap


class Listener(Tap):
    """Wants everything, keeps the shapes only."""

    def __init__(self, path: str = "", shapes: dict[str, tuple[int, ...]] | None = None):
        self.path, self.shapes = path, {} if shapes is None else shapes
        self.turns: list[Listener] = []

    def __call__(self, name: str, value: Tensor) -> Tensor:
        if self.path + name in self.shapes:
            raise TapError(f"tap {self.path}{name} fired twice in one forward pass")
        self.shapes[self.path + name] = tuple(value.shape)
        return value

    def at(self, child: str) -> Tap:
        return Listener(f"{self.path}{child}.", self.shapes)

    def inside(self, block: str) -> Tap:
        return self.at(block)

    def during(self, place: int, count: int) -> Tap:
        self.turns.append(Listener(self.path))
        return self.turns[-1]

    def join(self) -> None:
        for name, shape in self.turns[0].shapes.items():
            positions = sum(turn.shapes[name][-2] for turn in self.turns)
            self.shapes[name] = (*shape[:-2], positions, shape[-1])

    def wants(self, *names: str) -> bool:
        return True


@lru_cache(maxsize=32)
def sites(plan: spec.Model, batch: int = 1, length: int = 8) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tap in one pass over `batch` rows of `length` positions, as they fire."""
    model, listener = build(plan, device="meta").eval(), Listener()
    length = min(length, *(m.length for m in model.modules() if isinstance(m, Learned)), length)
    with torch.no_grad():
        if isinstance(plan, spec.Paired | spec.Seq2Seq):
            tokens = torch.zeros(batch, length, dtype=torch.long, device="meta")
            model(tokens, tokens, tap=listener)
        elif isinstance(plan, spec.Single) and isinstance(plan.input, spec.Patches):
            side = plan.input.image
            model(torch.zeros(batch, plan.input.channels, side, side, device="meta"), tap=listener)
        else:
            model(torch.zeros(batch, length, dtype=torch.long, device="meta"), tap=listener)
    return listener.shapes
