"""From a spec to a module with its initial values."""

import hashlib

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from cutaway import spec
from cutaway.models.paired import Paired
from cutaway.models.recurrence import Recurrence
from cutaway.models.seq2seq import Seq2Seq
from cutaway.models.single import Single
from cutaway.nn import part
from cutaway.nn.stack import Stack
from cutaway.spec.check import check_model

AnyModel = Single | Paired | Recurrence | Seq2Seq


def build(plan: spec.Model, seed: int = 0, device: str | torch.device = "cpu") -> AnyModel:
    """The module that computes `plan`, its parameters drawn from (seed, parameter name) alone.

    On the device "meta" nothing is allocated or drawn: for loading weights by assignment and for counting.
    Raises ConfigError where the tree does not fit together.
    """
    assert isinstance(plan, spec.Single | spec.Paired | spec.Recurrence | spec.Seq2Seq)
    check_model(plan)
    with torch.random.fork_rng(devices=[]), torch.device(device), Undrawn():
        torch.manual_seed(seed)  # for what a part from outside may draw by itself
        model = part(plan, plan.width)
    assert isinstance(model, AnyModel)
    if torch.device(device).type != "meta":
        initialise(model, plan.init, seed)
    return model.train()


class Undrawn(TorchFunctionMode):
    """Leaves out the values that torch gives its matrices: `initialise` draws them all.

    On the meta device it leaves out everything, because drawing nothing imports the compiler, for seconds.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta or tensor.dim() > 1:
                return tensor
        return func(*args, **kwargs)


def initialise(model: nn.Module, init: spec.Init, seed: int) -> None:
    """Draw every matrix; biases are zero, gains stay as their modules made them.

    The forget gate of an LSTM starts at 1, open (Gers et al. 2000; Jozefowicz et al. 2015).
    """
    depth = sum(m.layers for m in model.modules() if isinstance(m, Stack))
    factor = {"same": 1.0, "scaled": (2 * max(depth, 1)) ** -0.5, "zero": 0.0}[init.residual]
    into_residual = {
        f"{path}.{module.ends_in}" for path, module in model.named_modules() if hasattr(module, "ends_in")
    }
    with torch.no_grad():
        for path, module in model.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.RNNBase):
                    if name.startswith("bias"):
                        parameter.zero_()
                        if isinstance(module, nn.LSTM) and name.startswith("bias_ih"):
                            parameter[module.hidden_size : 2 * module.hidden_size] = 1.0
                        continue
                    deviation = parameter[0].numel() ** -0.5 * getattr(module, "gain", 1.0)
                    deviation = deviation if init.std is None else init.std
                elif parameter.dim() > 1:
                    deviation = init.embedding
                else:
                    continue
                full = f"{path}.{name}" if path else name
                parameter.normal_(0.0, deviation, generator=generator(seed, full))
                if path in into_residual:
                    parameter.mul_(factor)


def generator(seed: int, name: str) -> torch.Generator:
    """Random numbers that depend on the seed and the name only."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def count_parameters(plan: spec.Model) -> int:
    """How many numbers the model of this spec learns; tied ones count once."""
    return sum(p.numel() for p in build(plan, device="meta").parameters())
