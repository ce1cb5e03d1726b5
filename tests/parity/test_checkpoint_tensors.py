"""The negative control: no tensor of a checkpoint may be wrong, in another's place, or missing unnoticed.

Over all tensors of each family's smallest configuration: each is perturbed, dropped, and exchanged with every
other of its shape. Noticed means that loading refuses it, or that the logits or hidden states differ.
"""

from itertools import combinations

import pytest
import torch

from cutaway.errors import FileFormatError
from cutaway.tap import Recorder
from cutaway.weights.config import read_config
from cutaway.weights.folder import assemble
from cutaway.weights.safe import read_tensors
from tests.parity.checkpoints import SMALLEST, ask_theirs, inputs, save
from tests.parity.test_checkpoints import RELATIVE, apart

NOTICED = 1e-6  # relative; a thousand times and more beyond what rounding makes of float64


class Bench:
    """A saved checkpoint, what transformers says to an input, and how far from it a changed file is."""

    def __init__(self, name: str, folder):
        self.of = SMALLEST[name]
        theirs = self.of.build()
        save(theirs, folder)
        self.config, self.file = folder / "config.json", folder / "model.safetensors"
        self.tensors = read_tensors(self.file)
        self.read = inputs(self.of, rows=2)
        self.want = ask_theirs(self.of, theirs, self.read)

    @torch.no_grad()
    def distance(self, tensors: dict[str, torch.Tensor]) -> float:
        """The largest relative difference from transformers; infinite where loading refuses the tensors."""
        try:
            model = assemble(read_config(self.config), tensors, self.file).model
        except FileFormatError:
            return float("inf")
        tap = Recorder(self.want.places())
        logits = model(*self.read, tap=tap)
        return max(apart(logits, self.want.logits), self.want.compare(tap.seen, apart))


@pytest.fixture(scope="module", params=SMALLEST)
def bench(request, tmp_path_factory):
    made = Bench(request.param, tmp_path_factory.mktemp("checkpoint"))
    assert made.distance(made.tensors) <= RELATIVE["float64"]
    return made


def test_a_perturbed_tensor_is_noticed(bench):
    for name, tensor in bench.tensors.items():
        noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(3), dtype=tensor.dtype)
        assert bench.distance(bench.tensors | {name: tensor + 0.1 * noise}) > NOTICED, name


def test_a_dropped_tensor_is_noticed(bench):
    for name in bench.tensors:
        left = {key: value for key, value in bench.tensors.items() if key != name}
        assert bench.distance(left) == float("inf"), name


def test_a_tensor_in_the_place_of_another_is_noticed(bench):
    tried = 0
    for one, two in combinations(bench.tensors, 2):
        if bench.tensors[one].shape == bench.tensors[two].shape:
            tried += 1
            swapped = {one: bench.tensors[two], two: bench.tensors[one]}
            assert bench.distance(bench.tensors | swapped) > NOTICED, (one, two)
    assert tried > 3


def test_a_tensor_too_much_or_of_another_shape_is_noticed(bench):
    name, tensor = next(iter(bench.tensors.items()))
    assert bench.distance(bench.tensors | {"model.layers.0.mlp.router.weight": tensor}) == float("inf")
    assert bench.distance(bench.tensors | {name: tensor[:-1]}) == float("inf")
    assert bench.distance(bench.tensors | {name: tensor.to(torch.int64)}) == float("inf")
