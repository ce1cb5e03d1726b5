"""What of a model is trained: all of it, all but frozen parts, or low-rank adapters beside its weights.

Adapters go in place of the linear layers of attention and feed-forward. The model's own parameters keep their
names, so that everything that knows those (families, taps, optimisers) knows an adapted model.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cutaway import spec
from cutaway.errors import ConfigError
from cutaway.models.build import generator
from cutaway.nn.attention import Attention
from cutaway.nn.feedforward import MLP, GatedMLP
from cutaway.nn.lora import LowRank
from cutaway.spec.names import named_by

A, B = "lora_a", "lora_b"


def adapt(
    model: nn.Module, adapter: spec.LoRA | None = None, frozen: Iterable[str] = (), seed: int = 0
) -> None:
    """Leave of a model only that to train which a recipe says, and put the adapter in.

    A is normal with deviation 1 / sqrt(fan-in), drawn from (seed, name). Raises ConfigError for a name that
    means nothing, for a matrix that is to be trained in both ways, and where nothing is left to train.
    """
    own = dict(model.named_parameters())
    if adapter is None:
        for name in named_by(frozen, own, "frozen"):
            own[name].requires_grad_(False)
    else:
        targets, whole = targeted(model, adapter), named_by(adapter.whole, own, "adapter.whole")
        if both := [name for name in targets if f"{name}.weight" in whole]:
            raise ConfigError(
                f"adapter: {both[0]}.weight is a target and trained whole as well; take it out of one"
            )
        for name, parameter in own.items():
            parameter.requires_grad_(name in whole)
        for name in targets:
            draw(insert(model, name, adapter.rank, adapter.alpha, adapter.dropout), name, seed)
    if not trained(model):
        raise ConfigError("frozen: nothing of the model is left to train; name fewer parameters")


def insert(model: nn.Module, name: str, rank: int, alpha: float, dropout: float = 0.0) -> LowRank:
    """Put an adapter in place of the linear layer of this name; both its matrices are zero."""
    parent, _, child = name.rpartition(".")
    inner = model.get_submodule(name)
    assert isinstance(inner, nn.Linear)
    made = LowRank(inner, rank, alpha, dropout).train(inner.training)
    setattr(model.get_submodule(parent), child, made)
    return made


def draw(layer: LowRank, name: str, seed: int) -> None:
    """Give A its first values; nothing on the meta device."""
    if not layer.lora_a.is_meta:
        with torch.no_grad():
            drawn = torch.empty(layer.lora_a.shape).normal_(
                0.0, layer.in_features**-0.5, generator=generator(seed, f"{name}.{A}")
            )
            layer.lora_a.copy_(drawn)


def adaptable(model: nn.Module) -> list[str]:
    """The names of the linear layers that can have an adapter."""
    return [
        f"{path}.{name}"
        for path, part in model.named_modules()
        if isinstance(part, Attention | MLP | GatedMLP)
        for name, child in part.named_children()
        if isinstance(child, nn.Linear) and not isinstance(child, LowRank)
    ]


def targeted(model: nn.Module, adapter: spec.LoRA) -> list[str]:
    """The names of the layers that an adapter is for; ConfigError where it is for none."""
    names = adaptable(model)
    if adapter.targets:
        return named_by(adapter.targets, names, "adapter.targets")
    found = [name for name in names if isinstance(model.get_submodule(name.rpartition(".")[0]), Attention)]
    if not found:
        raise ConfigError("adapter.targets: this model has no attention whose matrices could be adapted")
    return found


def adapters(model: nn.Module) -> dict[str, LowRank]:
    """The adapted layers of a model by name."""
    return {name: part for name, part in model.named_modules() if isinstance(part, LowRank)}


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def still(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that stand still."""
    return {name: parameter for name, parameter in model.named_parameters() if not parameter.requires_grad}


def merged_weights(model: nn.Module) -> dict[str, Tensor]:
    """The parameters of a model that computes the same without adapters: these are added to the weights."""
    layers = adapters(model)
    thin = {f"{name}.{matrix}" for name in layers for matrix in (A, B)}
    found = {name: parameter.detach() for name, parameter in model.named_parameters() if name not in thin}
    return found | {f"{name}.weight": layer.merged() for name, layer in layers.items()}
