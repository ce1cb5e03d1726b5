"""Optimisers: torch's fused AdamW, and Muon for the matrices inside the blocks."""

import warnings

import torch
from torch import Tensor, nn

from cutaway import spec
from cutaway.errors import ConfigError, FileFormatError
from cutaway.train.muon import Muon


class Optimizers:
    """One or two torch optimisers that step together; their state goes by parameter name.

    `dtype` is what the run computes in; the weights stepped and all state are the model's own fp32.
    """

    def __init__(self, model: nn.Module, plan: spec.Optimizer, dtype: torch.dtype = torch.float32):
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        match plan:
            case spec.AdamW():
                self.parts = [_adamw(self.names, plan)]
            case spec.Muon():
                matrices = {p: n for p, n in self.names.items() if p.dim() == 2 and "blocks." in n}
                rest = {p: n for p, n in self.names.items() if p not in matrices}
                muon = Muon(
                    list(matrices),
                    dtype=dtype,
                    lr=plan.rate,
                    momentum=plan.momentum,
                    weight_decay=plan.decay,
                )
                self.parts = [muon, _adamw(rest, plan.others)]
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
        """Take over what `state_dict` gave. Raises FileFormatError for a name or shape that does not fit."""
        owner = {name: parameter for parameter, name in self.names.items()}
        part_of = {p: part for part in self.parts for group in part.param_groups for p in group["params"]}
        for key, value in state.items():
            name, _, field = key.rpartition("/")
            if name not in owner or (value.dim() and value.shape != owner[name].shape):
                raise FileFormatError(path, f"optimiser state {key} {tuple(value.shape)} fits no parameter")
            part_of[owner[name]].state[owner[name]][field] = value.clone()


def _adamw(names: dict[Tensor, str], plan: spec.AdamW) -> torch.optim.Optimizer:
    matrices = [p for p in names if p.dim() > 1]
    rest = [p for p in names if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": plan.decay}, {"params": rest, "weight_decay": 0.0}]
    with warnings.catch_warnings():
        return torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=plan.rate, betas=plan.betas, eps=plan.eps, fused=True
        )
