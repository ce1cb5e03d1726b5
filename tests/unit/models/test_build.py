"""From spec to module: published sizes, initial values, refusals."""

import dataclasses

import pytest
import torch

from cutaway import models, spec
from cutaway.errors import ConfigError, LimitError
from tests.unit.tiny import SIZES, plan, reads


@pytest.mark.parametrize(
    ("preset", "count"),
    [
        ("gpt2", 124_439_808),
        ("llama3", 1_235_814_400),
        ("bert", 109_514_298),
        ("t5", 60_506_624),
        ("vit", 86_567_656),
    ],
)
def test_published_sizes(preset, count):
    assert models.count_parameters(spec.PRESETS[preset]()) == count
    assert models.count_parameters(spec.PRESETS[preset](layers=2)) != count


def test_initial_values_depend_on_seed_and_name_alone():
    few, many = models.build(plan("gpt2"), seed=3), models.build(plan("gpt2", layers=2, vocab=29), seed=3)
    torch.manual_seed(1)
    again, other = models.build(plan("gpt2"), seed=3), models.build(plan("gpt2"), seed=4)
    for name, value in few.named_parameters():
        assert torch.equal(value, again.get_parameter(name))
        if value.shape == many.get_parameter(name).shape:
            assert torch.equal(value, many.get_parameter(name)), "another vocabulary changes no other matrix"
        if value.dim() > 1:
            assert not torch.equal(value, other.get_parameter(name))
    layers = [few.get_parameter(f"blocks.{depth}.ffn.up.weight") for depth in (0, 1)]
    assert not torch.equal(*layers)


def test_building_draws_nothing_from_torchs_generator():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    models.build(plan("small"))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("preset", SIZES)
def test_initial_values_are_of_the_size_the_record_says(preset):
    of = spec.PRESETS[preset](**(SIZES[preset] | {"width": 64, "heads": 4}))
    model, init = models.build(of), of.init
    depth = sum(stack.layers for stack in model.modules() if hasattr(stack, "layers"))
    for path, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or module.weight.numel() < 512:
            continue
        want = module.in_features**-0.5 if init.std is None else init.std
        if path.rpartition(".")[2] in ("out", "down") and "head" not in path:
            want *= {"zero": 0.0, "same": 1.0, "scaled": (2 * depth) ** -0.5}[init.residual]
        assert module.weight.std().item() == pytest.approx(want, rel=0.1, abs=1e-12), path
        assert module.bias is None or not module.bias.any()


def test_a_deviation_of_zero_is_zero():
    of = plan("gpt2")
    for std in (0.0, None):
        init = dataclasses.replace(of.init, std=std)
        model = models.build(dataclasses.replace(of, init=init))
        assert bool(model.blocks[0].ffn.up.weight.any()) == (std is None)


@pytest.mark.parametrize("preset", SIZES)
def test_every_preset_runs_and_every_parameter_has_a_gradient(preset):
    model = models.build(plan(preset))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    inputs = [x.float() if x.is_floating_point() else x for x in reads(plan(preset))]
    out = model(*inputs)
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_shared_blocks_run_at_every_depth():
    of = plan("bert")
    shared = dataclasses.replace(of, stack=dataclasses.replace(of.stack, layers=4, distinct=1))
    assert models.count_parameters(shared) < models.count_parameters(of)
    model = models.build(shared).eval()
    assert len(model.blocks) == 1
    assert [n for n in models.sites(shared) if n.endswith("ffn.out")] == [
        f"blocks.{d}.ffn.out" for d in range(4)
    ]


def test_cycled_blocks_differ_in_turn():
    norm, ffn = spec.RMSNorm(), spec.GatedMLP(24)
    local, whole = (spec.Block(spec.Attention(4, window=window), ffn, norm) for window in (2, None))
    stack = spec.Stack(5, (local, local, whole), "past")
    model = models.build(spec.Single(16, spec.Tokens(11), stack, spec.NextToken()))
    assert [block.mixer.window for block in model.blocks] == [2, 2, None, 2, 2]


def test_dropout_acts_in_training_only():
    model, (tokens_BL,) = models.build(plan("small", dropout=0.5)), reads(plan("small"))
    torch.manual_seed(0)
    assert not torch.equal(model(tokens_BL), model(tokens_BL))
    assert torch.equal(model.eval()(tokens_BL), model(tokens_BL))


@pytest.mark.parametrize("kind", ["attention", "hidden", "residual"])
def test_every_dropout_of_the_record_reaches_its_place(kind):
    of = plan("gpt2")
    block = dataclasses.replace(of.stack.blocks[0], dropout=spec.Dropout(**{kind: 0.5}))
    model = models.build(dataclasses.replace(of, stack=dataclasses.replace(of.stack, blocks=(block,))))
    tokens_BL = reads(of)[0]
    assert (model(tokens_BL) - model.eval()(tokens_BL)).abs().max() > 1e-4


def test_what_does_not_fit_is_refused():
    of, image = plan("gpt2"), plan("vit")
    with pytest.raises(ConfigError, match="NextToken needs an input of Tokens"):
        models.build(dataclasses.replace(image, head=spec.NextToken()))
    block = dataclasses.replace(of.stack.blocks[0], cross=spec.Attention(4))
    writer = dataclasses.replace(of.stack, blocks=(block,))
    with pytest.raises(ConfigError, match="the encoder sees 'all'"):
        models.build(spec.Paired(16, of.input, of.stack, writer, of.head))
    with pytest.raises(ConfigError, match=r"model: stack.blocks\[0\].cross: a Single has no memory"):
        models.build(dataclasses.replace(of, stack=writer))
    with pytest.raises(ConfigError, match="sees all positions"):
        models.build(plan("bert")).start()
    with pytest.raises(LimitError, match="the model reads"):
        models.build(image)(torch.zeros(1, 3, 9, 9))
