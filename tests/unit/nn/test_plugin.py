"""The example of a part from outside: it trains, traces, is edited, saved and loaded like our own."""

import importlib.util
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F

import cutaway
from cutaway import models, spec, study
from cutaway.data.tokenizer import byte_tokenizer
from cutaway.errors import ConfigError
from cutaway.generate import Decoding, Sampling, complete, stream
from cutaway.nn import part, register
from cutaway.spec.read import read_model
from cutaway.spec.write import write_model
from cutaway.train.language import Language
from tests.house.tree import ROOT
from tests.unit.generate.tiny import filled

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


@pytest.mark.parametrize("reach", [1, 3, 9])
@torch.no_grad()
def test_it_decodes_step_by_step(example, plan, reach):
    model, tokens_BL = filled(with_mixer(plan, example.Convolution(reach))), torch.arange(10)[None]
    whole = model(tokens_BL)
    for cuts in ([1] * 10, [4, 1, 1, 4], [10]):
        state = model.start()
        steps = [model.step(some, state) for some in tokens_BL.split(cuts, dim=1)]
        torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=0, atol=1e-12)
    forgotten = [model.step(token, model.start()) for token in tokens_BL.split(1, dim=1)]
    differs = (torch.cat(forgotten, dim=1) - whole).abs().max() > 1e-2
    assert bool(differs) == (reach > 1), "the control: what a mixer without its cache would give"


@torch.no_grad()
def test_it_decodes_unequal_prompts_together_as_alone(plan):
    model, prompts = filled(plan), [[1, 2, 3, 4, 5], [6], [7, 8]]

    def logarithms(prompts, rows):
        decoding = Decoding(model, prompts, max_tokens=6, sampling=Sampling(seed=1), rows=rows)
        return torch.tensor([decoding.advance()[1] for _ in range(6)], dtype=torch.float64)

    alone = torch.cat([logarithms([prompt], [row]) for row, prompt in enumerate(prompts)], dim=1)
    torch.testing.assert_close(logarithms(prompts, range(3)), alone, rtol=0, atol=1e-10)


@dataclass(frozen=True)
class Forgetful(spec.Mixer):
    """A mixer that never looked at its cache."""


class ForgetfulMixer(torch.nn.Module):
    def __init__(self, plan, width):
        super().__init__()

    def forward(self, x_BLD, *, mask=None, rotation=None, cache=None, tap=None):
        return x_BLD.cumsum(1)


def with_mixer(plan, mixer):
    blocks = tuple(replace(block, mixer=mixer) for block in plan.stack.blocks)
    return replace(plan, stack=replace(plan.stack, blocks=blocks))


def test_a_mixer_that_does_not_say_that_it_decodes_is_refused(plan):
    register(Forgetful, ForgetfulMixer)
    alone = with_mixer(replace(plan, input=spec.Tokens(257)), Forgetful())
    attend = spec.Block(spec.Attention(2), None, spec.RMSNorm())
    decoder = replace(alone.stack, blocks=(replace(alone.stack.blocks[0], cross=spec.Attention(2)),))
    pair = spec.Paired(16, spec.Tokens(257), spec.Stack(1, (attend,), "all"), decoder, spec.NextToken())
    tokens_BL, said = torch.arange(5)[None], "ForgetfulMixer does not decode .* `decodes = True`"
    for model, given in ((models.build(alone).eval(), ()), (models.build(pair).eval(), (tokens_BL,))):
        assert model(*given, tokens_BL).isfinite().all()
        with pytest.raises(ConfigError, match=said):
            model.start(*given)
    model = models.build(alone).eval()
    with pytest.raises(ConfigError, match=said):
        complete(model, byte_tokenizer(), ["a"])
    with pytest.raises(ConfigError, match=said):
        stream(model, byte_tokenizer(), "a")  # at the call, not at the first piece


def test_a_run_with_it_is_trained_loaded_and_writes(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text("to be, or not to be, that is the question\n" * 30)
    data = spec.Text((str(tmp_path / "text.txt"),), tokenizer="bytes", split="tail")
    settings = spec.Run(steps=3, batch=2, length=16, threads=1, precision="fp32", compile="off", sample=1)
    tokens_BL, looks = torch.arange(97, 117)[None], []

    def sample(task, model):
        with torch.no_grad():
            written = complete(
                model, task.tokenizer, ["to be"], max_tokens=5, sampling=Sampling(temperature=0)
            )
            looks.append((written[0].text, model(tokens_BL)))
        return looks[-1][0]

    monkeypatch.setattr(Language, "sample", sample)
    recipe = spec.Recipe("mixed", plan, data, settings)
    session = cutaway.load(cutaway.train(recipe, out=tmp_path / "run"))
    texts, logits = zip(*looks, strict=True)
    with torch.no_grad():
        assert torch.equal(session.model(tokens_BL), logits[-1])
    assert len(looks) == 3 and not torch.equal(logits[0], logits[-1])
    assert session.generate("to be", 5, temperature=0) == texts[-1]
    assert session.spec.stack.blocks[0].mixer == plan.stack.blocks[0].mixer


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
