"""The training step: accumulation, numbers that are not finite, and where its random numbers come from."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cutaway import spec
from cutaway.errors import NonFiniteError
from cutaway.models import AnyModel, build
from cutaway.spec.presets import quick
from cutaway.train.loop import Training, random_seed
from cutaway.train.loss import IGNORE, Batch, next_token_loss
from cutaway.train.optim import Optimizers
from cutaway.train.precision import Working
from tests.unit.train.tiny import OPTIMIZERS

VOCAB = 11


class Drawn:
    """Rows of random tokens, a pure function of the step; `ignore` of each row's targets are not scored."""

    def __init__(self, batch: int, accumulate: int, ignore: tuple[int, ...] = ()):
        self.batch, self.accumulate, self.ignore = batch, accumulate, ignore

    def parts(self, step: int) -> list[Batch]:
        rows = torch.from_numpy(np.random.default_rng(step).integers(VOCAB, size=(self.batch, 9)))
        targets = rows[:, 1:].clone()
        for row, count in enumerate(self.ignore):
            targets[row, :count] = IGNORE
        size = self.batch // self.accumulate
        return [
            Batch((some,), target)
            for some, target in zip(rows[:, :-1].split(size), targets.split(size), strict=True)
        ]

    def loss(self, model: AnyModel, batch: Batch, total: int) -> Tensor:
        return next_token_loss(model, batch, total)

    def example_ids(self, step: int) -> list[int]:
        return list(range(step * self.batch, (step + 1) * self.batch))


def made(
    *, steps=6, accumulate=1, dropout=0.0, dtype=torch.float32, optimizer="adamw", ignore=(), double=False
):
    model = build(quick(layers=2, width=16, heads=2, vocab=VOCAB, dropout=dropout), seed=1)
    working = Working(model.double() if double else model, dtype)
    run = spec.Run(steps=steps, batch=4, accumulate=accumulate, optimizer=OPTIMIZERS[optimizer])
    examples = Drawn(4, accumulate, ignore)
    return Training(working, examples, Optimizers(model, run.optimizer), run)


def numbers(training: Training) -> dict[str, Tensor]:
    """Everything a step may change."""
    weights = {name: p.detach().clone() for name, p in training.working.master.named_parameters()}
    return weights | {name: value.clone() for name, value in training.optimizers.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_parts_equal_one_batch_whatever_share_of_targets_each_scores(accumulate):
    """In float64 up to rounding; the mean is over all targets, not over the parts' means."""
    ignore = (7, 3, 0, 0)
    # dtype float64 for the masters makes no copy that computes in another
    whole, parts = (
        made(accumulate=k, ignore=ignore, double=True, dtype=torch.float64) for k in (1, accumulate)
    )
    for training in (whole, parts):
        training.working.model = training.working.master
    for one, other in zip(whole, parts, strict=True):
        assert one.tokens == other.tokens == 22
        torch.testing.assert_close(one.loss, other.loss, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(one.grad_norm, other.grad_norm, rtol=1e-9, atol=1e-9)
    for name, value in numbers(whole).items():
        torch.testing.assert_close(value, numbers(parts)[name], rtol=1e-7, atol=1e-7)


def test_the_mean_of_the_parts_means_would_be_another_loss():
    training = made(ignore=(7, 3, 0, 0))
    one, other = training.examples.parts(0)[0], made(accumulate=2, ignore=(7, 3, 0, 0)).examples.parts(0)
    assert one.scored == 22 and [part.scored for part in other] == [6, 16]


def test_a_batch_without_targets_has_loss_0_and_changes_nothing_but_decay():
    training = made(ignore=(8, 8, 8, 8))
    step = training.advance()
    assert step.loss == 0 and step.tokens == 0 and step.grad_norm == 0 and not step.skipped


def poison(where: str, value: float):
    """A hook that makes one value of a pass not finite: in the loss, or only in its gradient."""

    def forward(module, given, made):
        spoiled = made.clone()
        spoiled.view(-1)[0] = value
        return spoiled

    def backward(module, given, made):
        return lambda gradient: torch.full_like(gradient, value)

    def both(module, given, made):
        if where == "forward":
            return forward(module, given, made)
        if made.requires_grad:
            made.register_hook(backward(module, given, made))
        return None

    return both


MODULES = ["input.token", "blocks.0.attn.value", "final_norm"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_what_is_not_finite_reaches_neither_weights_nor_optimizer(where, value, dtype, optimizer):
    for name in MODULES:
        training = made(dtype=dtype, optimizer=optimizer, accumulate=2)
        training.working.refresh()
        training.advance()
        before = numbers(training)
        with torch.no_grad():  # zeros at the start would swallow what is not finite
            hook = training.working.model.get_submodule(name).register_forward_hook(poison(where, value))
        step = training.advance()
        hook.remove()
        assert step.skipped, name
        assert same(before, numbers(training)), name
        step = training.advance()
        assert not step.skipped and not same(before, numbers(training))
        assert all(bool(number.isfinite().all()) for number in numbers(training).values())


def test_without_the_guard_it_would(monkeypatch):
    training = made()
    training.advance()
    monkeypatch.setattr("cutaway.train.loop.math.isfinite", lambda number: True)
    training.working.model.get_submodule("final_norm").register_forward_hook(poison("forward", float("nan")))
    training.advance()
    assert not all(bool(number.isfinite().all()) for number in numbers(training).values())


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("forward", r"the value at blocks\.1\.out"),
        ("backward", r"the gradient at blocks\.1\.ffn\.hidden"),
    ],
)
def test_after_ten_in_a_row_it_gives_up_and_says_where(where, said):
    training = made(steps=30)
    training.advance()
    before = numbers(training)
    module = training.working.model.get_submodule("blocks.1.ffn")
    module.register_forward_hook(poison(where, float("nan")))
    for number in range(2, 12):
        assert training.advance().skipped
        assert training.done == number
    with pytest.raises(NonFiniteError, match=rf"^step 12: {said}") as failed:
        training.advance()
    assert failed.value.exit_code == 70
    assert failed.value.samples == [44, 45, 46, 47]
    assert training.done == 11 and same(before, numbers(training))


def test_a_finite_step_in_between_counts_anew():
    training = made(steps=30)
    module = training.working.model.get_submodule("final_norm")
    for _ in range(2):
        hook = module.register_forward_hook(poison("forward", float("inf")))
        assert all(training.advance().skipped for _ in range(10))
        hook.remove()
        assert not training.advance().skipped


def test_each_micro_step_has_random_numbers_of_its_own():
    seeds = {random_seed(seed, step, place) for seed in range(8) for step in range(40) for place in range(8)}
    assert len(seeds) == 8 * 40 * 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    training = made(accumulate=2, dropout=0.5)
    drawn: list[Tensor] = []
    training.working.model.get_submodule("input").register_forward_hook(
        lambda module, given, made: drawn.append(made != 0)
    )
    training.advance()
    training.advance()
    assert len(drawn) == 4
    assert not any(torch.equal(one, other) for i, one in enumerate(drawn) for other in drawn[:i])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_evaluating_and_sampling_in_between_draw_none_of_trainings_random_numbers(dtype):
    alone, disturbed = made(dropout=0.3, dtype=dtype), made(dropout=0.3, dtype=dtype)
    losses = [step.loss.item() for step in alone]
    for number, step in enumerate(disturbed):
        assert step.loss.item() == losses[number]
        model = disturbed.working.model.train(number % 2 == 0)  # even with dropout on
        with torch.no_grad():
            model(torch.randint(VOCAB, (2, 5)))
        torch.rand(number + 1)
    assert same(numbers(alone), numbers(disturbed))


def test_training_does_not_disturb_the_random_numbers_of_others():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(made(dropout=0.3))
    assert torch.equal(torch.rand(3), expected)


def test_with_random_numbers_of_the_process_the_test_of_disturbance_would_fail(monkeypatch):
    monkeypatch.setattr("cutaway.train.loop.random_seed", lambda *_: torch.seed() >> 1)
    alone, disturbed = made(dropout=0.3), made(dropout=0.3)
    list(alone)
    list(disturbed)
    assert not same(numbers(alone), numbers(disturbed))
