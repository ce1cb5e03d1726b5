"""Optimisers: torch's fused AdamW, and Muon for the matrices between the input and the head."""

import warnings
from collections import defaultdict

import torch
from torch import Tensor, nn

from cutaway import spec
from cutaway.errors import ConfigError, FileFormatError
from cutaway.models.adapt import trained
from cutaway.train.muon import Muon

FIELDS: dict[type[torch.optim.Optimizer], set[str]] = {
    torch.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"},
    Muon: {"momentum_buffer"},
}
HIDDEN = {"blocks", "layers", "look"}  # in the name of what stands between the input and the head


class Optimizers:
    """One or two torch optimisers that step what is trained; their state goes by parameter name.

    `dtype` is what the run computes in; the weights stepped and all state are the model's own fp32.
    """

    def __init__(self, model: nn.Module, plan: spec.Optimizer, dtype: torch.dtype = torch.float32):
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in trained(model).items()}
        match plan:
            case spec.AdamW():
                self.parts = [_adamw(self.names, plan)]
            case spec.Muon():
                matrices = {p: n for p, n in self.names.items() if p.dim() > 1 and HIDDEN & set(n.split("."))}
                if not matrices:
                    raise ConfigError(
                        "optimizer Muon steps the matrices of blocks and layers, and this model has none: "
                        "take AdamW"
                    )
                rest = {p: n for p, n in self.names.items() if p not in matrices}
                muon = Muon(
                    list(matrices),
                    dtype=dtype,
                    lr=plan.rate,
                    momentum=plan.momentum,
                    weight_decay=plan.decay,
                )
                self.parts = [muon, *([_adamw(rest, plan.others)] if rest else [])]
            case _:
                raise ConfigError(f"optimizer {type(plan).__name__}: known are AdamW and Muon")
        self.rates = [[group["lr"] for group in part.param_groups] for part in self.parts]

    def step(self, factor: float) -> None:
        """One step at `factor` times the rates."""
        for part, rates in zip(self.parts, self.rates, strict=True):
            for group, rate in zip(part.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            part.step()

    def state_dict(self) -> dict[str, Tensor]:
        """parameter name/field -> tensor."""
        return {
            f"{self.names[parameter]}/{field}": value
            for part in self.parts
            for parameter, fields in part.state.items()
            for field, value in fields.items()
        }

    def load_state_dict(self, state: dict[str, Tensor], path: str = "training state") -> None:
        """Take over what `state_dict` gave. Raises FileFormatError as `check_state` does."""
        self.check_state(state, path)
        owner, part_of = self._owners()
        for key, value in state.items():
            name, _, field = key.rpartition("/")
            part_of[name].state[owner[name]][field] = value.to(owner[name].device, copy=True)

    def check_state(self, state: dict[str, Tensor], path: str = "training state") -> None:
        """Raises FileFormatError unless this is state of these optimisers: of each parameter every field they
        keep and no other, or none at all where it never had a gradient.
        """
        owner, part_of = self._owners()
        found: dict[str, set[str]] = defaultdict(set)
        for key, value in state.items():
            name, _, field = key.rpartition("/")
            if name not in owner or value.shape != (() if field == "step" else owner[name].shape):
                raise FileFormatError(path, f"optimiser state {key} {tuple(value.shape)} fits no parameter")
            found[name].add(field)
        for name, fields in found.items():
            kind = type(part_of[name])
            if fields != FIELDS[kind]:
                held, kept = (", ".join(sorted(some)) for some in (fields, FIELDS[kind]))
                raise FileFormatError(
                    path,
                    f"holds {held} of {name}, where {kind.__name__} keeps {kept}: "
                    "give the run its optimizer back, or begin a new run",
                )

    def _owners(self) -> tuple[dict[str, Tensor], dict[str, torch.optim.Optimizer]]:
        """The parameter of each name, and the optimiser that steps it."""
        owner = {name: parameter for parameter, name in self.names.items()}
        groups = [(part, group) for part in self.parts for group in part.param_groups]
        return owner, {self.names[p]: part for part, group in groups for p in group["params"]}


def _adamw(names: dict[Tensor, str], plan: spec.AdamW) -> torch.optim.Optimizer:
    matrices = [p for p in names if p.dim() > 1]
    rest = [p for p in names if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": plan.decay}, {"params": rest, "weight_decay": 0.0}]
    with warnings.catch_warnings():
        return torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=plan.rate, betas=plan.betas, eps=plan.eps, fused=True
        )
