"""Steps of decoding that are compiled: one position of one row, each weight read once at memory's speed.

A product with one row does nothing but read its matrix, and what is behind torch's `mm` uses one core for it.
Written as a sum of products inside of a compiled block it is a loop of inductor's over all cores, beside the
small operations around it (LOG.md). Everything else runs as before, taps and edits included.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files

from cutaway.errors import ConfigError
from cutaway.models import AnyModel
from cutaway.nn.block import Block
from cutaway.nn.heads import NextToken

MOST_GRAPHS = 256  # of one kind of part: kinds of blocks, and which taps are read or edited
aten = torch.ops.aten


class Step:
    """Takes the place of a part's `forward`: compiled for one position of one row, plain for all else."""

    def __init__(self, part: nn.Module, quick: Callable[..., Tensor]):
        self.part, self.plain, self.quick = part, part.forward, quick

    def __call__(self, x_BLD: Tensor, *others: Any, **named: Any) -> Tensor:
        if x_BLD.shape[:2] == (1, 1) and not torch.is_grad_enabled():
            return self.quick(self.part, x_BLD, *others, **named)
        return self.plain(x_BLD, *others, **named)


class OneRow(CustomGraphPass):
    """Writes products of one row with a matrix on the processor as sums of products."""

    def __call__(self, graph: fx.Graph) -> None:
        for node in list(graph.nodes):
            if node.target is aten.mm.default:
                _as_sum(graph, node, *node.args)
            elif node.target is aten.addmm.default and not node.kwargs:
                bias, row, matrix = node.args
                _as_sum(graph, node, row, matrix, bias)

    def uuid(self) -> Any:
        return get_hash_for_files((__file__,))


ONE_ROW = OneRow()


def _as_sum(
    graph: fx.Graph, node: fx.Node, row: fx.Node, matrix: fx.Node, bias: fx.Node | None = None
) -> None:
    row_LD = row.meta["val"]
    if row_LD.size(0) != 1 or row_LD.device.type != "cpu":
        return

    def call(target: Any, *args: Any) -> fx.Node:
        made = graph.call_function(target, args)
        values = [arg.meta["val"] if isinstance(arg, fx.Node) else arg for arg in args]
        with row_LD.fake_mode:
            made.meta["val"] = target(*values)
        return made

    with graph.inserting_before(node):
        matrix_VD = call(aten.permute.default, matrix, [1, 0])
        sum_V = call(aten.sum.dim_IntList, call(aten.mul.Tensor, matrix_VD, row), [1])
        sum_1V = call(aten.unsqueeze.default, sum_V, 0)
        node.replace_all_uses_with(sum_1V if bias is None else call(aten.add.Tensor, sum_1V, bias))
    graph.erase_node(node)


def compile_steps(model: AnyModel) -> None:
    """From the next step of decoding on, blocks and head are compiled for one row. The first step takes a
    quarter of a minute, or a few seconds where the compiler remembers it from another process.

    Raises ConfigError for a model without blocks: recurrent ones have no such graph.
    """
    parts = [part for part in model.modules() if isinstance(part, Block | NextToken)]
    if not any(isinstance(part, Block) for part in parts):
        raise ConfigError(f"compile: a {type(model).__name__} has no blocks to compile; leave it out")
    quick = {kind: _compile(kind.forward) for kind in (Block, NextToken)}
    for part in parts:
        if not compiled(part):
            vars(part)["forward"] = Step(part, quick[type(part)])


def _compile(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """One function for all parts of a model, whose graphs do not count among those of other models."""
    own: dict[str, Any] = {  # torch's declared overloads leave the last two out
        "options": {"post_grad_custom_pre_pass": ONE_ROW},
        "recompile_limit": MOST_GRAPHS,
        "isolate_recompiles": True,
    }
    return torch.compile(forward, fullgraph=True, **own)


def compiled(part: nn.Module) -> bool:
    """Whether steps of this part are compiled."""
    return isinstance(vars(part).get("forward"), Step)
