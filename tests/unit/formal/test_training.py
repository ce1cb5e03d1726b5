"""Algorithms 11, 12 and 13 against torch: the losses are its cross entropies, the steps those of its SGD."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cutaway import formal
from cutaway.errors import ConfigError
from tests.unit.formal import peers

N_V, eta, N_epochs, p_mask = 7, 0.05, 2, 0.5
mask, bos, eos = formal.mask_token(N_V), formal.bos_token(N_V), formal.eos_token(N_V)
z_data, x_data = [[0, 1, 2], [3, 3], [2]], [[bos, 2, 1, eos], [bos, 3, eos], [bos, 0, 1, 2, eos]]
sizes = {"N_V": N_V, "l_max": 5, "H": 2, "d_e": 4, "d_mlp": 3}


@dataclass
class Case:
    """One of the three algorithms beside its peer."""

    make: Callable[[], nn.Module]
    read: Callable
    loss: Callable  # (example, theta): the formal loss
    torch_loss: Callable[..., Tensor]  # (model, example)
    examples: list  # what an epoch visits, in order: arguments of both losses
    train: Callable  # (theta, N_epochs, eta, **gradient)


def shifted(logits: Tensor, x) -> Tensor:
    return cross_entropy(logits[:-1], torch.tensor(x[1:]), reduction="sum")


def hidden(logits: Tensor, x_masked, x) -> Tensor:
    chosen = torch.tensor(x_masked) == mask
    return cross_entropy(logits[chosen], torch.tensor(x)[chosen], reduction="sum")


def masks_drawn(seed: int) -> list:
    rng = np.random.default_rng(seed)
    visits = [x for _ in range(N_epochs) for x in x_data]
    return [(formal.training.mask_randomly(x, p_mask, mask, rng), x) for x in visits]


cases = {
    "ED": Case(
        make=partial(peers.make_pair, L_enc=1, L_dec=1, **sizes),
        read=peers.read_pair,
        loss=formal.EDLoss,
        torch_loss=lambda model, z, x: shifted(model(z, x), x),
        examples=list(zip(z_data, x_data, strict=True)) * N_epochs,
        train=lambda theta, N_epochs, **gradient: formal.EDTraining(
            z_data, x_data, theta, N_epochs, eta, **gradient
        ),
    ),
    "E": Case(
        make=partial(peers.make_bert, L=1, d_f=5, **sizes),
        read=peers.read_bert,
        loss=formal.ELoss,
        torch_loss=lambda model, x_masked, x: hidden(peers.run_bert(model, x_masked), x_masked, x),
        examples=masks_drawn(seed=1),
        train=lambda theta, N_epochs, **gradient: formal.ETraining(
            x_data, theta, N_epochs, eta, p_mask, np.random.default_rng(1), **gradient
        ),
    ),
    "D": Case(
        make=partial(peers.make_gpt2, L=1, **sizes),
        read=peers.read_gpt2,
        loss=formal.DLoss,
        torch_loss=lambda model, x: shifted(peers.run_gpt2(model, x), x),
        examples=[(x,) for x in x_data] * N_epochs,
        train=lambda theta, N_epochs, **gradient: formal.DTraining(x_data, theta, N_epochs, eta, **gradient),
    ),
}


def assert_thetas_close(ours, theirs, tolerance) -> None:
    formal.map_arrays(
        lambda W, V: np.testing.assert_allclose(W, V, rtol=0, atol=tolerance) or W, ours, theirs
    )


@pytest.fixture(params=cases)
def case(request):
    return cases[request.param]


@pytest.fixture
def model(case):
    return case.make()


def test_loss_is_cross_entropy(case, model):
    theta = case.read(model)
    for example in case.examples:
        assert case.loss(*example, theta) == pytest.approx(case.torch_loss(model, *example).item(), abs=1e-10)


def test_central_differences_are_the_gradient(case, model):
    example = case.examples[0]
    case.torch_loss(model, *example).backward()
    theta = case.read(model)
    formal.map_arrays(lambda W: W.setflags(write=False) or W, theta)  # what it is given is not its to move
    grad = formal.central_differences(lambda theta: case.loss(*example, theta), theta)
    assert_thetas_close(grad, case.read(model, peers.slope), 1e-6)
    with pytest.raises(AssertionError):
        assert_thetas_close(grad, case.read(model, lambda parameter: -peers.slope(parameter)), 1e-6)


def autograd(case, model):
    """A gradient that torch computes for algorithms 11-13, while its SGD trains the model alongside."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=eta)
    visits = iter(case.examples)

    def gradient(loss, theta):
        torch_loss = case.torch_loss(model, *next(visits))
        assert loss(theta) == pytest.approx(torch_loss.item(), abs=1e-9)
        optimizer.zero_grad()
        torch_loss.backward()
        grad = case.read(model, peers.slope)
        optimizer.step()
        return grad

    return gradient


def test_training_is_stochastic_gradient_descent(case, model):
    theta = case.read(model)
    trained = case.train(theta, N_epochs, gradient=autograd(case, model))
    assert_thetas_close(trained, case.read(model), 1e-9)
    assert case.loss(*case.examples[-1], trained) < case.loss(*case.examples[-1], theta)


def test_one_epoch_by_central_differences(case, model):
    """Nothing of torch in it: three sequences, a step after each."""
    theta = case.read(model)
    trained = case.train(theta, 1)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=eta)
    for example in case.examples[: len(x_data)]:
        optimizer.zero_grad()
        case.torch_loss(model, *example).backward()
        optimizer.step()
    assert_thetas_close(trained, case.read(model), 1e-6)
    with pytest.raises(AssertionError):
        assert_thetas_close(theta, trained, 1e-3)


def test_no_epochs_change_nothing(case, model):
    theta = case.read(model)
    assert case.train(theta, 0) is theta


def log_P(x):
    model = cases["D"].make()
    theta = peers.read_gpt2(model)
    return np.log(formal.DTransformer(x, theta)), formal.DLoss(x, theta)


def test_the_loss_is_shifted_summed_and_skips_the_last_column():
    x = x_data[2]
    logs, loss = log_P(x)
    right = [logs[x[t + 1], t] for t in range(len(x) - 1)]
    assert loss == pytest.approx(-sum(right), abs=1e-12)
    mistaken = {
        "not shifted": -sum(logs[x[t], t] for t in range(len(x))),
        "shifted the other way": -sum(logs[x[t - 1], t] for t in range(1, len(x))),
        "a mean": -np.mean(right),
        "rows for columns": -sum(logs[t, x[t + 1]] for t in range(len(x) - 1) if x[t + 1] < len(x)),
    }
    for value in mistaken.values():
        assert abs(loss - value) > 1e-3


def test_the_masked_loss_counts_masked_places_only():
    theta = peers.read_bert(cases["E"].make())
    x, x_masked = [0, 1, 2, 3], [0, mask, 2, mask]
    logs = np.log(formal.ETransformer(x_masked, theta))
    assert formal.ELoss(x_masked, x, theta) == pytest.approx(-(logs[1, 1] + logs[3, 3]), abs=1e-12)
    assert abs(formal.ELoss(x_masked, x, theta) + sum(logs[x[t], t] for t in range(4))) > 1e-3
    assert formal.ELoss(x, x, theta) == 0


def test_masking_is_all_or_nothing():
    """Masked with probability p_mask, otherwise kept: not BERT's 80 % mask, 10 % another token, 10 % kept."""
    rng = np.random.default_rng(0)
    x = list(rng.integers(0, mask, size=20_000))

    def check(masked):
        changed = np.array(masked) != np.array(x)
        assert set(np.array(masked)[changed]) == {mask}
        assert abs(changed.mean() - 0.15) < 4 * np.sqrt(0.15 * 0.85 / len(x))

    def mask_like_bert(token):
        if rng.random() >= 0.15:
            return token
        return rng.choice([mask, rng.integers(0, mask), token], p=[0.8, 0.1, 0.1])

    check(formal.training.mask_randomly(x, 0.15, mask, rng))
    with pytest.raises(AssertionError):
        check([mask_like_bert(token) for token in x])


def test_pairs_must_match():
    with pytest.raises(ConfigError, match="2 z but 3 x"):
        formal.EDTraining(z_data[:2], x_data, peers.read_pair(cases["ED"].make()), 1, eta)
