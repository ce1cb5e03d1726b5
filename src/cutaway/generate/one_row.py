"""The pass that writes products of one row as sums; apart, since it brings inductor with it.

L rows   V output   D input
"""

from typing import Any

import torch
from torch import fx
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files

from cutaway.errors import ConfigError

aten = torch.ops.aten


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


def check_compiler() -> None:
    """Raises ConfigError where there is no C++ compiler."""
    try:
        get_cpp_compiler()
    except RuntimeError as problem:
        raise ConfigError("compile: there is no C++ compiler here; install g++ or leave it out") from problem


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
