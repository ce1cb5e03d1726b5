"""How much arithmetic a step of training takes, so that its pace can be held against the machine's peak."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from cutaway.models import AnyModel, Paired, Single
from cutaway.nn.attention import Attention
from cutaway.nn.convolution import ConvolutionalLook
from cutaway.nn.look import Additive, Bridge, Multiplicative
from cutaway.nn.stack import Stack


def training_flops(model: AnyModel, length: int) -> float:
    """Floating-point operations a token of one training step takes: 6 a weight that is multiplied with, 4
    where it stands still, and attention.

    Kaplan et al. 2020, section 2.1; attention takes 12 * heads * head_width a layer and position looked at.
    Blocks that run at several depths count as often. Each side of a pair counts as `length` long; what a
    recurrent writer starts from is computed once in that.
    """
    stacks = []
    if isinstance(model, Single | Paired):
        stacks = [model.encoder, model.decoder] if isinstance(model, Paired) else [model]
    weights = multiplied(model) - (1 - 1 / length) * sum(starting(module) for module in model.modules())
    if tied(model):
        weights += share(model.vocab_matrix) * model.vocab_matrix.numel()
    attention = 6.0 * length * sum(looked(module) for module in model.modules())
    for stack in stacks:
        for place in range(len(stack.blocks)):
            times = len(range(place, stack.layers, len(stack.blocks)))
            block = stack.blocks[place]
            weights += (times - 1) * multiplied(block)
            for part in block.children():
                if isinstance(part, Attention):
                    seen = length if part is block.cross else positions_seen(stack, part, length)
                    attention += 12 * times * part.heads * part.head_width * seen
    return 6.0 * weights + attention


@dataclass(frozen=True)
class Cost:
    """`training_flops` in two: of a token that is read, and in the head of one that is scored.

    Few are scored where tokens are hidden (one in seven), or a row has one class.
    """

    reading: float
    scoring: float

    def of(self, read: Sequence[int], scored: int) -> float:
        """Floating-point operations of a step, from the positions read on each side of the model."""
        return self.reading * sum(read) / len(read) + self.scoring * scored


def training_cost(model: AnyModel, length: int) -> Cost:
    """The cost of training a model on rows of about `length` positions."""
    weights = multiplied(model.head)
    if tied(model):
        weights += share(model.vocab_matrix) * model.vocab_matrix.numel()
    return Cost(training_flops(model, length) - 6.0 * weights, 6.0 * weights)


def tied(model: AnyModel) -> bool:
    """Whether the head multiplies with the embedding's matrix, as it has none of its own."""
    return getattr(model.head, "out", model) is None


def share(parameter: Tensor) -> float:
    """What a weight costs, going forward and back: a weight that stands still asks for no gradient."""
    return 1.0 if parameter.requires_grad else 2 / 3


def multiplied(module: nn.Module) -> float:
    """How many weights are matrices that vectors are multiplied with; those that stand still count less."""
    return sum(
        share(parameter) * parameter.numel()
        for part in module.modules()
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d | nn.RNNBase)
        for name, parameter in part.named_parameters(recurse=False)
        if name.startswith(("weight", "lora"))
    )


def starting(module: nn.Module) -> float:
    """How many of those make a recurrent writer's first states: one vector a row is multiplied with them."""
    match module:
        case Bridge():
            return multiplied(module)
        case Additive():
            return multiplied(module.first)
    return 0.0


def looked(module: nn.Module) -> int:
    """How many products a writer's look takes for each pair of positions, in scores and in what is taken."""
    match module:
        case ConvolutionalLook():
            return 2 * module.query.in_features
        case Multiplicative():
            return module.out.in_features  # a score has the writer's width, what is taken the memory's
        case Additive():
            return module.key.in_features + module.hidden
    return 0


def positions_seen(stack: Stack, part: Attention, length: int) -> float:
    """How many positions a query looks at, on average."""
    reach = min(part.window or length, length)
    behind = reach - reach * (reach - 1) / (2 * length)
    return behind if stack.sees == "past" else min(length, 2 * behind - 1)
