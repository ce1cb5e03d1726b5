"""The example of a part from outside: it trains, traces, is edited, saved and loaded like our own."""

import importlib.util
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from cutaway import models, spec, study
from cutaway.errors import ConfigError
from cutaway.nn import part
from cutaway.spec.read import read_model
from cutaway.spec.write import write_model
from tests.house.tree import ROOT

FILE = ROOT / "docs" / "examples" / "token_mixer.py"


@pytest.fixture(scope="module")
def example():
    known = importlib.util.spec_from_file_location("token_mixer", FILE)
    module = importlib.util.module_from_spec(known)
    sys.modules["token_mixer"] = module
    known.loader.exec_module(module)
    return module


@pytest.fixture
def plan(example) -> spec.Single:
    block = spec.Block(example.Convolution(reach=3), spec.GatedMLP(24), spec.RMSNorm())
    stack = spec.Stack(2, (block,), "past", final_norm=spec.RMSNorm())
    return spec.Single(16, spec.Tokens(11), stack, spec.NextToken())


def test_it_is_as_short_as_promised():
    code = [line for line in FILE.read_text().split('"""', 2)[2].splitlines() if line.strip()]
    assert len(code) <= 40


def test_it_trains_and_sees_the_past_only(plan):
    model = models.build(plan)
    tokens_BL = torch.arange(11).repeat(4)[None, :33]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        loss = F.cross_entropy(model(tokens_BL[:, :-1]).flatten(0, 1), tokens_BL[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4
    changed = tokens_BL.clone()
    changed[:, 20] = 0
    moved = (model(changed) - model(tokens_BL)).abs().amax((0, 2)) > 0
    assert not moved[:20].any() and moved[20]


def test_it_is_traced_and_edited(plan):
    model, tokens_BL = models.build(plan).eval(), torch.arange(7)[None]
    seen = study.trace(model, tokens_BL, keep=["blocks.*.mixer.*"])
    assert list(seen) == [f"blocks.{depth}.mixer.{site}" for depth in (0, 1) for site in ("mixed", "out")]
    plain = model(tokens_BL)
    with study.edit(model, study.skip("blocks.0.mixer")):
        skipped = model(tokens_BL)
    with study.edit(model, {"blocks.0.mixer.out": study.ablate()}):
        silenced = model(tokens_BL)
    assert torch.equal(skipped, silenced) and not torch.equal(skipped, plain)
    effects = study.switch_off(model, tokens_BL)
    assert [part.name for part in effects.parts[:3]] == [
        "blocks.0.mixer.out",
        "blocks.0.ffn.out",
        "blocks.0.out",
    ]


def test_it_is_saved_and_loaded(plan, tmp_path):
    model, tokens_BL = models.build(plan, seed=1), torch.arange(7)[None]
    torch.save(model.state_dict(), tmp_path / "weights")
    other = models.build(plan, seed=2)
    assert not torch.equal(other(tokens_BL), model(tokens_BL))
    other.load_state_dict(torch.load(tmp_path / "weights"))
    assert torch.equal(other(tokens_BL), model(tokens_BL))
    assert "blocks.0.mixer.kernel" in model.state_dict()


def test_it_stands_in_toml(plan):
    written = write_model(plan)
    assert written["stack"]["blocks"][0]["mixer"] == {"kind": "Convolution", "reach": 3}
    assert read_model(written) == plan
    written["stack"]["blocks"][0]["mixer"]["kind"] = "Convolutions"
    with pytest.raises(ConfigError, match="Convolution"):
        read_model(written)


def test_its_initial_values_depend_on_seed_and_name_alone(plan):
    torch.manual_seed(1)
    one = models.build(plan, seed=5).state_dict()
    torch.manual_seed(2)
    two = models.build(plan, seed=5).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert one["blocks.0.mixer.kernel"].std() > 0


def test_a_record_without_a_module_is_refused():
    with pytest.raises(ConfigError, match="no module computes Mixer: register"):
        part(spec.Mixer(), 16)


def test_it_stands_by_itself():
    code = f"import runpy; runpy.run_path({str(FILE)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
