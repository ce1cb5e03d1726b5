"""Packed weights: the same products within rounding, never stale, and only where somebody decodes."""

import pytest
import torch

from cutaway import spec
from cutaway.generate import Decoding, Sampling, pack
from cutaway.generate.pack import Packed, pays
from tests.unit.generate.tiny import PAIRS, SINGLES, filled, tokens

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


@pytest.fixture
def calls(monkeypatch):
    """Counts the products that packed weights make."""
    seen, product = [], torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda *a: seen.append(1) or product(*a))
    return seen


@pytest.mark.parametrize("name", SINGLES | PAIRS)
def test_logits_are_the_same_within_rounding(name, calls):
    model = filled((SINGLES | PAIRS)[name](), dtype=torch.float32)
    given = (tokens(3, 9), tokens(3, 7)) if name in PAIRS else (tokens(3, 9),)
    with torch.inference_mode():
        expected_BLV = model(*given)
        assert not calls
        with Packed(model, 3):
            found_BLV = model(*given)
    matrices = sum(isinstance(module, torch.nn.Linear) for module in model.modules()) + model.plan.head.tied
    assert len(calls) == matrices  # each one, the tied vocabulary matrix included
    torch.testing.assert_close(found_BLV, expected_BLV, rtol=1e-5, atol=1e-5)


def test_bf16_errs_no_more_than_the_plain_product():
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no bf16 kernels")
    exact, model = filled(SINGLES["small"]()), filled(SINGLES["small"](), dtype=torch.bfloat16)
    with torch.inference_mode():
        exact_BLV, plain_BLV = exact(tokens(2, 9)), model(tokens(2, 9)).double()
        with Packed(model, 2):
            packed_BLV = model(tokens(2, 9)).double()
    assert (packed_BLV - exact_BLV).abs().max() < 2 * (plain_BLV - exact_BLV).abs().max()


def test_a_weight_that_has_changed_since_is_read_anew():
    model = filled(SINGLES["gpt2"](), dtype=torch.float32)
    packed = Packed(model, 1)
    with torch.no_grad():
        before_BLV = model(tokens(1, 5))
        model.blocks[0].ffn.up.weight.mul_(3.0)
        expected_BLV = model(tokens(1, 5))
        with packed:
            torch.testing.assert_close(model(tokens(1, 5)), expected_BLV, rtol=1e-5, atol=1e-5)
    assert (before_BLV - expected_BLV).abs().max() > 1e-2


def test_gradients_flow_as_if_nothing_was_packed(calls):
    model = filled(SINGLES["gpt2"](), dtype=torch.float32)
    with Packed(model, 1):
        model(tokens(1, 5)).sum().backward()
    assert not calls and model.blocks[0].ffn.up.weight.grad is not None


def test_it_is_used_where_it_pays(monkeypatch, calls):
    model = filled(spec.small(2, 16, 4, vocab=23), dtype=torch.float32)
    assert not pays(model, 8, 100)  # too small to gain
    monkeypatch.setattr(pack, "LEAST_BYTES", 0)
    assert pays(model, 8, 100) and not pays(model, 1, 100) and not pays(model, 8, 2)
    assert not pays(model.double(), 8, 100)
    model.float()
    prompts, greedy = [[1, 2, 3], [4]], Sampling(temperature=0)
    fast = Decoding(model, prompts, max_tokens=20, sampling=greedy)
    found = [fast.advance()[0] for _ in range(20)]
    assert calls
    monkeypatch.setattr(pack, "LEAST_BYTES", 2**40)
    plain = Decoding(model, prompts, max_tokens=20, sampling=greedy)
    count = len(calls)
    assert found == [plain.advance()[0] for _ in range(20)] and len(calls) == count
