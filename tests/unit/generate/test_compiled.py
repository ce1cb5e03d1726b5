"""Compiled steps of decoding: the same logits, edits included, and no product of one row left."""

import pickle
import subprocess
import sys

import pytest
import torch
from torch._dynamo.utils import counters
from torch.fx.experimental.proxy_tensor import make_fx

from cutaway import spec, study
from cutaway.errors import ConfigError, TapError
from cutaway.generate import Decoding, Sampling, one_row
from cutaway.generate.compiled import compile_steps, compiled
from cutaway.generate.one_row import ONE_ROW
from cutaway.models import build

pytestmark = [
    pytest.mark.compiled,
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
]
GREEDY = Sampling(temperature=0)
PLANS = {
    "small": spec.small(layers=2, width=32, heads=4, kv_heads=2, vocab=50),
    "gpt2": spec.gpt2(layers=2, width=32, heads=4, vocab=50, length=64),
    "t5": spec.t5(layers=2, width=32, heads=4, hidden=64, vocab=50),
}


def drawn(name: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """A model whose biases and gains are random, too."""
    model = build(PLANS[name], seed=0).to(dtype).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator, dtype=dtype) * 0.2)
    return model


@torch.inference_mode()
def logits(model, tokens: list[int], rows: int = 1) -> torch.Tensor:
    """What a model says at every step, after it has read the first three."""
    if isinstance(model.plan, spec.Paired):
        state = model.start(torch.tensor([[3, 4, 5, 6]] * rows))
    else:
        state = model.start()
        model.step(torch.tensor([tokens[:3]] * rows), state)
    return torch.cat([model.step(torch.tensor([[token]] * rows), state) for token in tokens[3:]], 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_a_compiled_step_says_the_same(name):
    plain, quick = drawn(name, torch.float64), drawn(name, torch.float64)
    compile_steps(quick)
    tokens = [7, 3, 9, 1, 4, 4, 8, 2, 30, 49, 5]
    torch.testing.assert_close(logits(quick, tokens), logits(plain, tokens), rtol=1e-10, atol=1e-10)
    assert torch.equal(logits(quick, tokens, rows=2), logits(plain, tokens, rows=2)), (
        "two rows are not compiled"
    )


@pytest.mark.slow
def test_edits_act_in_compiled_steps():
    plain, quick = drawn("small"), drawn("small")
    compile_steps(quick)
    tokens = [7, 3, 9, 1, 4, 4, 8]
    before = logits(quick, tokens)
    with (
        study.edit(plain, {"blocks.1.attn.mix": study.ablate(heads=[2])}),
        study.edit(quick, {"blocks.1.attn.mix": study.ablate(heads=[2])}),
    ):
        edited = logits(quick, tokens)
        torch.testing.assert_close(edited, logits(plain, tokens), rtol=1e-4, atol=1e-4)
    assert (edited - before).abs().max() > 1e-2
    assert torch.equal(logits(quick, tokens), before), "and no longer"


@pytest.mark.slow
def test_greedy_writing_is_the_same(tmp_path, monkeypatch):
    plain, quick = drawn("gpt2"), drawn("gpt2")
    compile_steps(quick)
    step, rewritten, calls = vars(quick.blocks[0])["forward"], [], []
    compile_steps(quick)
    assert vars(quick.blocks[0])["forward"] is step, "asked for twice, done once"
    inner, write = step.quick, one_row._as_sum
    step.quick = lambda *given, **named: calls.append(1) or inner(*given, **named)
    monkeypatch.setattr(one_row.OneRow, "uuid", lambda self: str(tmp_path))  # what no cache knows
    monkeypatch.setattr(one_row, "_as_sum", lambda *given: rewritten.append(1) or write(*given))
    rows = [Decoding(model, [[1, 2, 3]], max_tokens=20, sampling=GREEDY) for model in (plain, quick)]
    written = [[each.advance()[0][0] for _ in range(20)] for each in rows]
    assert written[0] == written[1]
    assert len(calls) == 19 and len(rewritten) >= 7, "every step but the prompt's, every product"
    with torch.no_grad():
        quick.step(torch.tensor([[1], [2]]), quick.start())
    quick.step(torch.tensor([[1]]), quick.start())
    assert len(calls) == 19, "neither of two rows nor where gradients are wanted"
    assert type(pickle.loads(pickle.dumps(quick)).blocks[0].forward).__name__ == "method"


@pytest.mark.slow
def test_of_two_texts_the_longer_goes_on_alone(monkeypatch):
    monkeypatch.setattr("cutaway.generate.pack.LEAST_BYTES", 0)
    plain, quick = drawn("gpt2"), drawn("gpt2")
    compile_steps(quick)
    written = []
    for model in (plain, quick):
        rows = Decoding(model, [[1, 2, 3], [4, 5]], max_tokens=20, sampling=GREEDY)
        both = [rows.advance()[0] for _ in range(3)]
        rows.keep([1])
        written.append((both, [rows.advance()[0] for _ in range(6)]))
    assert written[0] == written[1]


@pytest.mark.slow
def test_one_model_s_graphs_are_not_counted_among_another_s(monkeypatch):
    monkeypatch.setattr("cutaway.generate.compiled.MOST_GRAPHS", 2)
    for _ in range(2):
        model = drawn("gpt2")
        compile_steps(model)
        assert logits(model, [1, 2, 3, 4, 5, 6]).isfinite().all(), "the first step, and one for any length"


@pytest.mark.slow
def test_a_second_answer_takes_the_graphs_of_the_first():
    model = drawn("small")
    compile_steps(model)
    counters.clear()
    for prompt in ([1, 2, 3], [4] * 20):
        rows = Decoding(model, [prompt], max_tokens=12, sampling=GREEDY)
        for _ in range(12):
            rows.advance()
    assert counters["stats"]["unique_graphs"] == 2, "a block's and the head's"


@pytest.mark.parametrize("bias", [False, True])
def test_no_product_of_one_row_is_left(bias):
    def product(x, w, b):
        return torch.addmm(b, x, w.t()) if bias else torch.mm(x, w.t())

    x, w, b = torch.randn(1, 8), torch.randn(5, 8), torch.randn(5)
    traced = make_fx(product, tracing_mode="fake")(x, w, b)
    ONE_ROW(traced.graph)
    traced.recompile()
    assert not {torch.ops.aten.mm.default, torch.ops.aten.addmm.default} & {
        n.target for n in traced.graph.nodes
    }
    torch.testing.assert_close(traced(x, w, b), product(x, w, b))
    rows = make_fx(product, tracing_mode="fake")(torch.randn(2, 8), w, b)
    before = str(rows.graph)
    ONE_ROW(rows.graph)
    assert str(rows.graph) == before


def test_what_is_wrong_with_an_edit_is_said_in_the_same_words():
    model = drawn("small")
    compile_steps(model)
    with (
        study.edit(model, {"blocks.0.out": study.replace(torch.zeros(5, 32))}),
        pytest.raises(TapError, match="fit"),
    ):
        logits(model, [1, 2, 3, 4])


def test_an_encoder_writes_nothing():
    with pytest.raises(ConfigError):
        compile_steps(build(spec.bert(layers=1, width=16, heads=2, vocab=20, length=16), seed=0).eval())


def test_without_a_compiler_it_is_said_at_once(monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/g++")
    without = torch._inductor.config.patch({"cpp.cxx": ("/nowhere/g++",)})
    with without, pytest.raises(ConfigError, match="no C\\+\\+ compiler"):
        compile_steps(drawn("gpt2"))


def test_a_recurrent_model_has_no_blocks():
    model = build(spec.lstm(layers=1, width=16, vocab=20), seed=0).eval()
    with pytest.raises(ConfigError, match="has no blocks to compile"):
        compile_steps(model)
    assert not any(compiled(part) for part in model.modules())


def test_a_session_brings_no_compiler_with_it():
    asked = "import sys, cutaway.session; sys.exit('torch._inductor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked]).returncode == 0
