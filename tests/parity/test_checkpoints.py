"""Random checkpoints that transformers made and saved: what we load computes the same, layer by layer.

Logits, every hidden state through the taps, losses and every gradient, in float32 and float64, beside padding
on either side. The tolerances are relative to the largest number compared.
"""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.tap import Recorder
from cutaway.weights.families import FAMILIES
from cutaway.weights.folder import read_folder
from cutaway.weights.keys import write_keys
from tests.parity.checkpoints import CASES, SMALLEST, VOCAB, Case, ask_theirs, inputs, save
from tests.unit.models.test_parity import InFloat64

DTYPES = {"fp32": torch.float32, "float64": torch.float64}
RELATIVE = {"fp32": 2e-5, "float64": 1e-12}
WORST_LOGIT, WORST_KL = 1e-4, 1e-10
TEXT = [name for name, one in CASES.items() if one.reads != "images"]


def pair(of: Case, dtype: torch.dtype, folder):
    """Our model, loaded from what theirs was saved as, and theirs."""
    theirs = of.build(dtype)
    return read_folder(save(theirs, folder)).model, theirs


def kl(ours: Tensor, theirs: Tensor) -> float:
    """The largest divergence of a row of logits, in nats."""
    mine, other = ours.double().log_softmax(-1), theirs.double().log_softmax(-1)
    return float((other.exp() * (other - mine)).sum(-1).abs().max())


def apart(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest number."""
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max().clamp(min=1e-6))


def evenness(pattern: Tensor) -> float:
    """How even attention is, from 0 to 1: its mean entropy over that of an even one; rows that see three."""
    seen = (pattern > 0).sum(-1)
    entropy = torch.special.entr(pattern.double()).sum(-1)
    return float((entropy / seen.clamp(min=2).log())[seen >= 3].mean())


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_every_layer_is_theirs(name, kind, tmp_path):
    of, dtype = CASES[name], DTYPES[kind]
    ours, theirs = pair(of, dtype, tmp_path)
    assert {value.dtype for value in ours.parameters()} == {dtype} and not ours.training
    read = inputs(of, dtype)
    want = ask_theirs(of, theirs, read)
    tap = Recorder(want.places())
    logits = ours(*read, tap=tap)
    assert apart(logits, want.logits) <= RELATIVE[kind]
    assert (logits - want.logits).abs().max() <= WORST_LOGIT
    if kind == "float64":
        assert kl(logits, want.logits) <= WORST_KL
    assert want.compare(tap.seen, apart) <= RELATIVE[kind]
    keys = {place for place in want.hidden if place.endswith(".k")}
    assert len(want.hidden) - len(keys) >= 2 and (keys or of.family == "gpt2")


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_the_comparison_is_not_empty(name, tmp_path):
    """Logits spread by at least 1, attention is far from even, and no two layers say the same."""
    of = CASES[name]
    ours, theirs = pair(of, torch.float64, tmp_path)
    read = inputs(of)
    want = ask_theirs(of, theirs, read)
    assert (want.logits.amax(-1) - want.logits.amin(-1)).min() >= 1
    sides = ("encoder.", "decoder.") if of.reads == "pairs" else ("",)
    tap = Recorder({f"{side}blocks.0.attn.pattern" for side in sides})
    ours(*read, tap=tap)
    for pattern in tap.seen.values():
        assert evenness(pattern) < 0.9
    states = [state for place, state in want.hidden.items() if not place.endswith(".k")]
    assert all(one.shape != two.shape or apart(one, two) > 1e-3 for one, two in pairwise(states))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", TEXT)
@torch.no_grad()
def test_beside_padding(name, side, tmp_path):
    of = CASES[name]
    ours, theirs = pair(of, torch.float64, tmp_path)
    read = inputs(of)
    real = torch.tensor([9, 6])
    padding = torch.arange(9)[None] < real[:, None]
    padding = padding.flip(1) if side == "left" else padding
    option = {"source_padding_BM" if of.reads == "pairs" else "padding_BL": padding}
    got = ours(*read, **option)
    if of.family == "marian" and side == "left":  # theirs counts padding as positions; a row alone has none
        alone = ((read[0][i : i + 1, 9 - n :], read[1][i : i + 1]) for i, n in enumerate(real.tolist()))
        want = torch.cat([ask_theirs(of, theirs, row).logits for row in alone])
    else:
        want = ask_theirs(of, theirs, read, padding).logits
    if got.shape[:2] == padding.shape:
        got, want = got[padding], want[padding]
    assert apart(got, want) <= RELATIVE["float64"]
    without = ours(*read)
    without = without[padding] if without.shape[:2] == padding.shape else without
    seen_anyway = side == "right" and of.reads == "text" and ours.sees == "past"
    assert seen_anyway or apart(without, got) > 1e-3


def losses(of: Case, ours, theirs, read) -> tuple[Tensor, Tensor]:
    """Our cross-entropy from our logits, and the loss that theirs makes of the labels."""
    generator = torch.Generator().manual_seed(2)
    logits = ours(*read)
    count = logits.size(-1)
    labels = torch.randint(0, min(VOCAB, count), logits.shape[:-1], generator=generator)
    first = "pixel_values" if of.reads == "images" else "input_ids"
    options = {first: read[0], "labels": labels}
    if of.reads == "pairs":
        options["decoder_input_ids"] = read[1]
    shifts = of.reads == "text" and logits.dim() == 3 and ours.sees == "past"
    said, right = (logits[:, :-1], labels[:, 1:]) if shifts else (logits, labels)
    mine = F.cross_entropy(said.flatten(0, -2), right.flatten())
    with InFloat64():
        return mine, theirs(**options).loss


@pytest.mark.parametrize("name", [name for name, one in CASES.items() if "bare" not in one.shows])
def test_losses_and_all_gradients_are_theirs(name, tmp_path):
    of = CASES[name]
    ours, theirs = pair(of, torch.float64, tmp_path)
    ours.requires_grad_(True)
    theirs.requires_grad_(True)
    mine, other = losses(of, ours, theirs, inputs(of))
    assert abs(mine.item() - other.item()) <= 1e-12 * other.item()
    mine.backward()
    other.backward()
    gradients = {key: value.grad for key, value in ours.named_parameters()}
    gradients = write_keys(FAMILIES[of.family].keys(ours.plan), gradients)
    names = dict(theirs.named_parameters(remove_duplicate=False))
    compared = 0
    for key, gradient in gradients.items():
        wanted = names.get(key, names.get(renamed(key)))
        if wanted is None:  # the Marian bias is a buffer, and buffers have no gradient
            assert key == "final_logits_bias"
            continue
        compared += 1
        assert apart(gradient, wanted.grad) <= 1e-9, key
    assert compared == len(gradients) - (of.family == "marian")
    assert max(gradient.abs().max() for gradient in gradients.values()) > 1e-3


VIT = {"attention.attention.query": "attention.q_proj", "attention.attention.key": "attention.k_proj"}
VIT |= {"attention.attention.value": "attention.v_proj", "attention.output.dense": "attention.o_proj"}
VIT |= {"encoder.layer": "layers", "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2"}


def renamed(key: str) -> str:
    """transformers 5 has other names in memory than in files for its ViT."""
    for file, memory in VIT.items():
        key = key.replace(file, memory)
    return key


# Which case shows a property, or why a family has none of that kind.
NO_GROUPS = "its config has no number of key heads"
NO_WINDOW = "its config has no window"
NO_BIASLESS = "its config always has them"
NO_BIAS = "its config has none"
IMAGES = "it reads images of one size"
MATRIX: dict[str, dict[str, str]] = {
    "odd": dict.fromkeys(FAMILIES, "case"),
    "grouped": dict.fromkeys(FAMILIES, "case")
    | dict.fromkeys(("gpt2", "bert", "t5", "marian", "vit"), NO_GROUPS),
    "biases": dict.fromkeys(FAMILIES, "case") | dict.fromkeys(("mistral", "t5"), NO_BIAS),
    "no_biases": dict.fromkeys(FAMILIES, "case")
    | dict.fromkeys(("gpt2", "qwen2", "bert", "marian"), NO_BIASLESS),
    "tied": dict.fromkeys(FAMILIES, "case") | {"vit": IMAGES},
    "untied": dict.fromkeys(FAMILIES, "case") | {"vit": IMAGES},
    "window": dict.fromkeys(FAMILIES, NO_WINDOW) | dict.fromkeys(("mistral", "qwen2", "qwen3"), "case"),
    "left padding": dict.fromkeys(FAMILIES, "all") | {"vit": IMAGES},
    "right padding": dict.fromkeys(FAMILIES, "all") | {"vit": IMAGES},
    "fp32": dict.fromkeys(FAMILIES, "all"),
    "float64": dict.fromkeys(FAMILIES, "all"),
    "every layer": dict.fromkeys(FAMILIES, "all"),
    "loss": dict.fromkeys(FAMILIES, "all"),
    "gradients": dict.fromkeys(FAMILIES, "all"),
    "every tensor": dict.fromkeys(FAMILIES, "case"),
    "export": dict.fromkeys(FAMILIES, "all"),
}
SHOWN = {"every tensor": "smallest"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("what", MATRIX)
def test_no_cell_of_the_matrix_is_empty(what, family):
    said = MATRIX[what][family]
    own = [one for one in CASES.values() if one.family == family]
    showing = [one for one in own if SHOWN.get(what, what) in one.shows]
    if said == "case":
        assert showing
    elif said == "all":
        assert own and (family != "vit" or "padding" not in what)
    else:
        assert len(said) > 10 and not showing


def test_a_missing_case_would_leave_a_cell_empty():
    odd = [name for name, one in CASES.items() if one.family == "t5" and "odd" in one.shows]
    assert odd == ["t5"] and set(SMALLEST) == set(FAMILIES)
    assert math.isclose(
        kl(torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])),
        0.75 * math.log(1.5) - 0.25 * math.log(2.0),
        rel_tol=1e-6,
    )
