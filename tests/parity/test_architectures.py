"""Our `Paired` and `Single` against algorithms 8 to 15 as `cutaway.formal` has them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import cutaway.nn.attention
import cutaway.nn.norm
from cutaway import formal, models, spec
from cutaway.errors import ContextLengthError
from cutaway.generate import Sampling
from cutaway.generate.decode import Decoding
from cutaway.train.loss import Batch, next_token_loss, token_losses
from tests.parity import drawn, theta
from tests.parity.drawn import L_MAX, N_V, NOTICED, TOLERANCE, WIDTH, X, Z, both_precisions, gap


@dataclass(frozen=True)
class Case:
    """An algorithm beside the model that should be it."""

    plan: Callable[..., spec.Model]
    read: Callable
    algorithm: Callable
    inputs: tuple[list[int], ...]

    def logits(self, model: models.AnyModel) -> Tensor:
        return model(*(torch.tensor([ids]) for ids in self.inputs))[0]

    def gap(self, model: models.AnyModel, weights: Any = None) -> float:
        """Between the logarithms of the probabilities."""
        weights = self.read(model) if weights is None else weights
        return gap(self.logits(model).double().log_softmax(-1), np.log(self.algorithm(*self.inputs, weights)))


CASES = {
    "8": Case(drawn.pair, theta.pair_of, formal.EDTransformer, (Z, X)),
    "9": Case(drawn.encoder, theta.encoder_of, formal.ETransformer, (X,)),
    "10": Case(drawn.decoder, theta.decoder_of, formal.DTransformer, (X,)),
}


@both_precisions
@pytest.mark.parametrize("heads", [(1, None), (2, None), (4, None), (3, 5)], ids=str)
@pytest.mark.parametrize("number", CASES)
def test_equals_the_algorithm(number, heads, dtype):
    case = CASES[number]
    for seed in range(3):
        model = drawn.make(case.plan(attend=drawn.attention(*heads)), seed, dtype)
        assert case.gap(model) < TOLERANCE[dtype]


@pytest.mark.parametrize("number", CASES)
@pytest.mark.parametrize("length", [1, 2, L_MAX])
def test_equals_it_at_any_length(number, length):
    case = CASES[number]
    ids = [(3 * i + 1) % N_V for i in range(length)]
    for inputs in ((ids,), (X,)) if number != "8" else ((ids, X), (Z, ids)):
        other = Case(case.plan, case.read, case.algorithm, inputs)
        assert other.gap(drawn.make(case.plan())) < 1e-10


# Mistakes: the right weights in another model, other weights in the right model, or other code --------------

PLAN_MISTAKES: dict[str, dict[str, Any]] = {
    "pre for post": {"order": "pre"},
    "sub-layers in parallel": {"order": "parallel"},
    "an epsilon": {"norm": spec.LayerNorm(eps=1e-5)},
    "embeddings times sqrt(d_e)": {"scale": WIDTH**0.5},
    "scores not scaled": {"attend": drawn.attention(scale=1.0)},
    "scores scaled by d_e": {"attend": drawn.attention(scale=WIDTH**-0.5)},
    "GELU by tanh": {"act": "gelu_tanh"},
    "ReLU for GELU": {"act": "relu"},
    "GELU for ReLU": {"act": "gelu"},
    "the head's GELU by tanh": {"head_act": "gelu_tanh"},
    "sees all": {"sees": "all"},
    "sees the past only": {"sees": "past"},
    "post for pre": {"order": "post"},
}
ALL = (
    "an epsilon",
    "embeddings times sqrt(d_e)",
    "scores not scaled",
    "scores scaled by d_e",
    "GELU by tanh",
)
APPLY = {
    "8": (*ALL, "pre for post", "sub-layers in parallel", "GELU for ReLU"),
    "9": (*ALL, "pre for post", "ReLU for GELU", "the head's GELU by tanh", "sees the past only"),
    "10": (*ALL, "post for pre", "sub-layers in parallel", "ReLU for GELU", "sees all"),
}


@pytest.mark.parametrize(("number", "mistake"), [(n, m) for n in CASES for m in APPLY[n]])
def test_another_model_is_noticed(number, mistake):
    case = CASES[number]
    right, wrong = drawn.make(case.plan()), drawn.make(case.plan(**PLAN_MISTAKES[mistake]))
    wrong.load_state_dict(right.state_dict(), strict=False)  # post-norm has no last norm
    assert case.gap(wrong, case.read(right)) > NOTICED


def exchange(one: str, other: str) -> Callable[[dict[str, Tensor]], None]:
    """Every weight whose name holds `one` for that with `other`, both ways round."""

    def change(state: dict[str, Tensor]) -> None:
        for name in [n for n in state if one in n]:
            near = name.replace(one, other)
            state[name], state[near] = state[near].clone(), state[name].clone()

    return change


def forget(part: str) -> Callable[[dict[str, Tensor]], None]:
    """Biases set to what they are in a fresh model."""

    def change(state: dict[str, Tensor]) -> None:
        for name in [n for n in state if part in n]:
            state[name] = torch.zeros_like(state[name])

    return change


WEIGHT_MISTAKES = {
    "W_q and W_k swapped": exchange("attn.query", "attn.key"),
    "the norms swapped": exchange("mixer_norm", "ffn_norm"),
    "the layers swapped": exchange("blocks.0", "blocks.1"),
    "no b_mlp": forget("ffn.up.bias"),
    "no beta": forget("ffn_norm.bias"),
    "no b_o": forget("attn.out.bias"),
}
CROSS_MISTAKES = {
    "cross-attention with the weights of self-attention": exchange("cross.", "attn."),
    "their norms swapped": exchange("cross_norm", "mixer_norm"),
    "W_q and W_k of cross-attention swapped": exchange("cross.query", "cross.key"),
    "encoder and decoder swapped": exchange("encoder.blocks.0.attn", "decoder.blocks.0.attn"),
}
WEIGHTS = [(n, m) for n in CASES for m in WEIGHT_MISTAKES] + [("8", m) for m in CROSS_MISTAKES]


@pytest.mark.parametrize(("number", "mistake"), WEIGHTS)
def test_other_weights_are_noticed(number, mistake):
    case, model = CASES[number], drawn.make(CASES[number].plan())
    weights, state = case.read(model), model.state_dict()
    (WEIGHT_MISTAKES | CROSS_MISTAKES)[mistake](state)
    model.load_state_dict(state)
    assert case.gap(model, weights) > NOTICED


def unbiased_variance(monkeypatch) -> None:
    def forward(self, x, tap=None):
        return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True) * self.weight + self.bias

    monkeypatch.setattr(cutaway.nn.norm.LayerNorm, "forward", forward)


def split_by_view(monkeypatch) -> None:
    def split(x_BLE, heads):
        return x_BLE.reshape(x_BLE.size(0), heads, x_BLE.size(1), -1)

    monkeypatch.setattr(cutaway.nn.attention, "split_heads", split)


def change_attend(change: Callable[..., tuple]) -> Callable:
    def plant(monkeypatch) -> None:
        right = cutaway.nn.attention.attend

        def attend(q_BHLK, k_BGMK, v_BGMK, mask, scale, tap):
            return right(*change(q_BHLK, k_BGMK, v_BGMK, mask), scale, tap)

        monkeypatch.setattr(cutaway.nn.attention, "attend", attend)

    return plant


def future_for_past(q, k, v, mask):
    """The causal mask transposed: every position sees itself and what comes after."""
    if mask.causal:
        mask = mask._replace(causal=False, allowed=torch.ones(q.size(2), q.size(2), dtype=torch.bool).triu())
    return q, k, v, mask


def strictly_past(q, k, v, mask):
    """t_z < t_x for t_z <= t_x: the first position sees nothing."""
    if mask.causal:
        allowed = torch.ones(q.size(2), q.size(2), dtype=torch.bool).tril(-1)
        mask = mask._replace(causal=False, allowed=allowed, dead=~allowed.any(-1, keepdim=True))
    return q, k, v, mask


CODE_MISTAKES = {
    "unbiased variance": (unbiased_variance, CASES),
    "heads split by view": (split_by_view, CASES),
    "keys for values": (change_attend(lambda q, k, v, mask: (q, k, k, mask)), CASES),
    "mask transposed": (change_attend(future_for_past), ("8", "10")),
    "a position does not see itself": (change_attend(strictly_past), ("8", "10")),
}


@pytest.mark.parametrize(("number", "mistake"), [(n, m) for m, (_, ns) in CODE_MISTAKES.items() for n in ns])
def test_other_code_is_noticed(number, mistake, monkeypatch):
    case, model = CASES[number], drawn.make(CASES[number].plan())
    assert case.gap(model) < 1e-10
    CODE_MISTAKES[mistake][0](monkeypatch)
    assert case.gap(model) > NOTICED


# Algorithms 11, 12, 13: the losses, and a step down their gradient ------------------------------------------


def batch_of(*inputs: list[int]) -> Batch:
    """What training reads of these sequences: of the last, each token is asked for at the place before it."""
    *sources, x = (torch.tensor([ids]) for ids in inputs)
    return Batch((*sources, x[:, :-1]), x[:, 1:])


LOSSES = {"8": formal.EDLoss, "10": formal.DLoss}


@both_precisions
@pytest.mark.parametrize("number", LOSSES)
def test_the_loss_is_ours(number, dtype):
    case = CASES[number]
    model, batch = drawn.make(case.plan(), dtype=dtype), batch_of(*case.inputs)
    paper = LOSSES[number](*case.inputs, case.read(model))
    assert (
        abs(token_losses(model, batch).double().sum().item() - paper) < 1e-4
    )  # in float32, whatever the model
    assert abs(next_token_loss(model, batch, 1).item() - paper) < 10 * TOLERANCE[dtype]
    assert abs(next_token_loss(model, batch, len(X)).item() * len(X) - paper) < 10 * TOLERANCE[dtype]
    not_shifted = Batch((*batch.inputs[:-1], torch.tensor([X])), torch.tensor([X]))
    assert abs(next_token_loss(model, not_shifted, 1).item() - paper) > 0.1


def test_the_masked_loss_is_cross_entropy_at_the_masks():
    case, model, mask = CASES["9"], drawn.make(drawn.encoder()), formal.mask_token(N_V)
    x_masked = [9, mask, 6, mask, 3, 5, 8]
    hidden = torch.tensor(x_masked) == mask
    logits = model(torch.tensor([x_masked]))[0]
    ours = F.cross_entropy(logits[hidden], torch.tensor(X)[hidden], reduction="sum").item()
    paper = formal.ELoss(x_masked, X, case.read(model))
    assert abs(ours - paper) < 1e-10
    assert abs(F.cross_entropy(logits, torch.tensor(X), reduction="sum").item() - paper) > 0.1


@pytest.mark.parametrize("number", LOSSES)
def test_a_step_of_ours_is_a_step_of_the_algorithm(number):
    """theta - eta grad: by our loss, its gradient and torch's SGD, and by central differences."""
    case, eta = CASES[number], 0.05
    model = drawn.make(case.plan(layers=(1, 1) if number == "8" else 1))
    before = case.read(model)
    next_token_loss(model, batch_of(*case.inputs), 1).backward()
    torch.optim.SGD(model.parameters(), lr=eta).step()
    train = formal.EDTraining if number == "8" else formal.DTraining
    after = train(*([ids] for ids in case.inputs), before, N_epochs=1, eta=eta)

    def furthest(one: Any, other: Any) -> float:
        gaps: list[float] = []
        formal.map_arrays(lambda W, V: gaps.append(float(np.abs(W - V).max())) or W, one, other)
        return max(gaps)

    assert furthest(case.read(model), after) < 1e-7
    assert furthest(before, after) > 1e-2


# Algorithms 14 and 15: what is written ----------------------------------------------------------------------


def write(model: models.AnyModel, prompt: list[int], count: int, begin: int | None = None) -> list[int]:
    """The likeliest token each time, with our cache."""
    greedy = Sampling(temperature=0.0)
    decoding = Decoding(model, [prompt], max_tokens=count, sampling=greedy, begin=begin)
    return [decoding.advance()[0][0] for _ in range(count)]


@pytest.mark.parametrize("seed", range(4))
def test_what_a_decoder_writes(seed):
    model, rng = drawn.make(drawn.decoder(), seed), np.random.default_rng(0)
    for prompt in ([9], [9, 2, 6]):
        count = L_MAX - len(prompt)
        paper = formal.DInference(prompt, theta.decoder_of(model), count, 0.0, rng)
        assert write(model, prompt, count) == paper
    state = model.state_dict()
    exchange("attn.query", "attn.key")(state)
    model.load_state_dict(state)
    assert write(model, prompt, count) != paper


def test_what_an_encoder_decoder_writes():
    bos, eos, ended = formal.bos_token(N_V), formal.eos_token(N_V), 0
    for seed in range(20):
        model = drawn.make(drawn.pair(layers=(1, 1)), seed)
        with torch.no_grad():  # places that differ much, or one token is written again and again
            model.source.position.weight.mul_(8)
        written = write(model, Z, L_MAX - 1, begin=bos)
        if eos in written:
            ours = [bos, *written[: written.index(eos) + 1]]
            assert formal.EDInference(Z, theta.pair_of(model), 0.0, np.random.default_rng(0)) == ours
            ended += len(ours) > 2
        else:
            with pytest.raises(ContextLengthError):
                formal.EDInference(Z, theta.pair_of(model), 0.0, np.random.default_rng(0))
    assert ended >= 2  # some went on for a while and then ended
