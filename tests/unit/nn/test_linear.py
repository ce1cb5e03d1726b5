"""Products of fp32 by oneDNN: the same numbers, and only where nobody stands between.

These run on every processor: where oneDNN is not the faster one, they say it is.
"""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from cutaway.nn import linear as linear_module
from cutaway.nn.linear import Linear, linear, linear_into, suits

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch is built without oneDNN"
)
SHAPES = {"matrix": (48, 24), "batch": (2, 24, 24), "heads": (2, 3, 8, 24)}


@pytest.fixture
def onednn(monkeypatch):
    """Every product of fp32 by oneDNN, however small; tells how many there were."""
    calls = []
    monkeypatch.setattr(linear_module, "ONEDNN_IS_FASTER", True)
    monkeypatch.setattr(linear_module, "LEAST", 0)
    product = linear_module.product
    monkeypatch.setattr(linear_module, "product", lambda *given: calls.append(given) or product(*given))
    return calls


def drawn(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=dtype)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_product_and_gradients_are_those_of_float64(shape, bias, onednn):
    given = [drawn(*SHAPES[shape]), drawn(16, 24), drawn(16) if bias else None]
    ours = [None if t is None else t.clone().requires_grad_() for t in given]
    theirs = [None if t is None else t.double().requires_grad_() for t in given]
    slope = drawn(*SHAPES[shape][:-1], 16)
    found, exact = linear(*ours), F.linear(*theirs)
    torch.testing.assert_close(found, exact.float(), rtol=1e-5, atol=1e-5)
    found.backward(slope)
    exact.backward(slope.double())
    for our, their in zip(ours, theirs, strict=True):
        if our is not None:
            torch.testing.assert_close(our.grad, their.grad.float(), rtol=1e-5, atol=1e-4)
    assert len(onednn) == 3, "forward, and for both gradients"


def test_weights_that_stand_still_get_no_gradient(onednn):
    layer = Linear(24, 16).requires_grad_(False)
    x = drawn(8, 24).requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None and layer.weight.grad is None and layer.bias.grad is None


@pytest.mark.parametrize(
    ("moves", "numbers"), [("x", 16 * 24), ("weight", 8 * 24), ("both", 24 * 24), ("bias", 0)]
)
def test_only_what_a_gradient_needs_is_kept(moves, numbers, onednn):
    x, weight, bias = drawn(8, 24), drawn(16, 24), drawn(16)
    for name, tensor in {"x": x, "weight": weight, "bias": bias}.items():
        tensor.requires_grad_(moves in (name, "both"))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        linear(x, weight, bias)
    assert sum(kept) == numbers


def test_many_gradients_at_once(onednn):
    x, weight = drawn(8, 24).requires_grad_(), drawn(16, 24)
    each = torch.autograd.grad(linear(x, weight).sum(0), x, torch.eye(16), is_grads_batched=True)[0]
    torch.testing.assert_close(each, weight[:, None].expand(16, 8, 24))


def test_gradients_of_gradients(onednn):
    x, weight = drawn(8, 24).requires_grad_(), drawn(16, 24).requires_grad_()
    x64, weight64 = x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    seconds = []
    for a, b, multiply in ((x, weight, linear), (x64, weight64, F.linear)):
        (slope,) = torch.autograd.grad(multiply(a, b).square().sum(), a, create_graph=True)
        seconds.append(torch.autograd.grad(slope.square().sum(), b)[0])
    torch.testing.assert_close(seconds[0], seconds[1].float(), rtol=1e-4, atol=1e-1)


VIEWS = {
    "every other row": lambda x_LD: torch.stack([x_LD, -x_LD], 1).flatten(0, 1)[::2],
    "every other column": lambda x_LD: torch.stack([x_LD, -x_LD], 2).flatten(1)[:, ::2],
    "axes exchanged": lambda x_LD: x_LD.mT.contiguous().mT,
    "one row for all": lambda x_LD: x_LD[:1].expand_as(x_LD),
}


@pytest.mark.parametrize("view", VIEWS)
def test_views_are_read_as_they_are(view, onednn):
    x, weight = VIEWS[view](drawn(8, 24)), VIEWS[view](drawn(16, 24))
    bias = VIEWS[view](drawn(16, 2))[:, 0]
    torch.testing.assert_close(linear(x, weight, bias), x @ weight.mT + bias)


def test_written_into_a_part_of_a_matrix(onednn):
    x, weight, out = drawn(8, 24), drawn(16, 24), torch.zeros(12, 16)
    linear_into(out[2:10], x, weight)
    torch.testing.assert_close(out[2:10], x @ weight.mT)
    assert not out[:2].any() and not out[10:].any()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own imports
def test_compiled_and_eager_are_equal_to_the_bit(onednn):
    x, layer = drawn(32, 24), Linear(24, 16)
    with torch.no_grad():
        assert torch.equal(torch.compile(layer, fullgraph=True)(x), layer(x))


def test_small_products_and_other_types_are_torchs(monkeypatch):
    x, weight = drawn(64, 512), drawn(512, 512)
    assert suits(x, weight) and not suits(x[:4], weight)
    assert not suits(x.double(), weight.double()) and not suits(x.bfloat16(), weight.bfloat16())
    assert not suits(x.to("meta"), weight.to("meta")) and not suits(x.to_sparse(), weight)
    assert not suits(x, drawn(512, 256)) and not suits(x, weight, drawn(64, 512)) and not suits(x, weight[0])
    assert not suits(x.flatten(), drawn(2, 64 * 512)), "torch has a gradient of one vector"
    with FakeTensorMode() as mode:
        assert not suits(mode.from_tensor(x), mode.from_tensor(weight))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own forward mode
def test_what_stands_in_front_of_torch_is_asked(onednn):
    """Autocast, functional transforms, forward mode and modes of functions, as packed weights are."""
    x, weight = drawn(6, 8, 24), drawn(16, 24)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
    each = torch.vmap(linear, (0, None))(x, weight)
    torch.testing.assert_close(each, F.linear(x, weight))
    with forward_ad.dual_level():
        slope = forward_ad.unpack_dual(linear(x, forward_ad.make_dual(weight, weight))).tangent
    torch.testing.assert_close(slope, F.linear(x, weight))
    with torch.device("cpu"):
        linear(x, weight)
    assert not onednn


def test_flops_are_counted(onednn):
    x, weight = drawn(8, 24).requires_grad_(), drawn(16, 24).requires_grad_()
    with FlopCounterMode(display=False) as counter:
        linear(x, weight).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 8 * 24 * 16 and len(onednn) == 3


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this torch is built without MKL")
@pytest.mark.parametrize(
    ("able", "faster"),
    [
        ({"cpu_name": "AMD EPYC", "avx512_f": True}, True),
        ({"cpu_name": "AMD EPYC 7763", "avx512_f": False}, False),
        ({"cpu_name": "Intel(R) Xeon(R)", "avx512_f": True}, False),
        ({}, False),
    ],
)
def test_it_is_the_faster_one_where_mkl_has_less_than_the_processor(able, faster, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert linear_module.onednn_is_faster() is faster
