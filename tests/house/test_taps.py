"""Taps: names are complete and unique, and where nobody looks the compiled graph has no trace of them."""

import dataclasses
import re
from pathlib import Path

import pytest

from cutaway import models, spec
from cutaway.tap import Recorder
from tests.house.graphs import Job, graphs
from tests.house.stripped import NAME, strip, write_stripped
from tests.unit.tiny import SIZES, plan, reads

NORM = ["scale", "normalized", "out"]


def attention_sites(extra: tuple[str, ...]) -> list[str]:
    found = ["q", *(e for e in ("q_normed", "q_rotated") if e in extra)]
    found += ["k", *(e for e in ("k_normed",) if e in extra), "v", *(e for e in ("k_rotated",) if e in extra)]
    return [*found, "scores", "pattern", "mix", "out"]


def block_sites(
    norm_first: bool, ffn: list[str], cross: bool = False, extra: tuple[str, ...] = ()
) -> list[str]:
    parts = [("mixer_norm", "attn", attention_sites(extra), "mid")]
    if cross:  # never rotated
        sites = attention_sites(tuple(e for e in extra if e.endswith("normed")))
        parts.append(("cross_norm", "cross", sites, "crossed"))
    parts.append(("ffn_norm", "ffn", ffn, "out"))
    names = ["in"]
    for norm, child, sites, end in parts:
        norms, inside = [f"{norm}.{s}" for s in NORM], [f"{child}.{s}" for s in sites]
        names += [*norms, *inside, end] if norm_first else [*inside, *norms, end]
    return names


def expected(preset: str) -> list[str]:
    """The sites of a preset with two layers, written out here and not read from the code."""
    plain, gated = ["up", "hidden", "out"], ["gate", "up", "hidden", "out"]
    rotated = ("q_rotated", "k_rotated")
    quick = (*rotated, "q_normed", "k_normed")
    final = [f"final_norm.{s}" for s in NORM]
    inputs = {
        "gpt2": ["token", "position"],
        "bert": ["token", "position", "segment", *(f"norm.{s}" for s in NORM)],
    }
    inputs |= {"vaswani": ["token", "position"], "vit": ["patch", "position"]}
    inputs |= {name: ["token", *(f"norm.{s}" for s in NORM)] for name in ("quick_pair", "quick_encoder")}
    block = {
        "gpt2": block_sites(True, plain),
        "llama3": block_sites(True, gated, extra=rotated),
        "bert": block_sites(False, plain),
        "vit": block_sites(True, plain),
        "small": block_sites(True, gated, extra=quick),
        "quick": block_sites(True, plain, extra=quick),
        "quick_encoder": block_sites(True, plain, extra=quick),
    }
    entry = [f"input.{s}" for s in (*inputs.get(preset, ["token"]), "out")]
    if preset in block:
        body = [f"blocks.{d}.{s}" for d in range(2) for s in block[preset]]
        head = ["head.pooled"] if preset == "vit" else []
        return [*entry, *body, *([] if preset == "bert" else final), *head, "logits"]
    first, extra, names = preset != "vaswani", quick if preset == "quick_pair" else (), []
    for side in ("encoder", "decoder"):
        sites = block_sites(first, plain, side == "decoder", extra)
        body = [f"blocks.{d}.{s}" for d in range(2) for s in sites]
        whole = [*entry, *(["bias"] if preset == "t5" else []), *body, *(final if first else [])]
        names += [f"{side}.{s}" for s in whole]
    return [*names, "logits"]


@pytest.mark.parametrize("preset", SIZES)
def test_names_are_complete(preset):
    assert list(models.sites(plan(preset))) == expected(preset)


@pytest.mark.parametrize("preset", SIZES)
def test_names_are_module_paths_and_sites(preset):
    model = models.build(plan(preset))
    for name in models.sites(model.plan):
        path = re.sub(r"^encoder\.input|^decoder\.input", "source", name.rpartition(".")[0])
        assert path in ("encoder", "decoder") or model.get_submodule(path) is not None
        assert re.fullmatch(r"[a-z_0-9]+(\.[a-z_0-9]+)*", name)


VARIANTS = {preset: plan(preset) for preset in SIZES}
_gpt2 = plan("gpt2")
_block = _gpt2.stack.blocks[0]


def varied(**stack: object) -> spec.Single:
    return dataclasses.replace(_gpt2, stack=dataclasses.replace(_gpt2.stack, **stack))


VARIANTS |= {
    "shared": varied(layers=4, distinct=1),
    "cycled": varied(layers=5, blocks=(_block, dataclasses.replace(_block, ffn=spec.GatedMLP(24)))),
    "shared and cycled": varied(layers=6, distinct=3, blocks=(_block, dataclasses.replace(_block, ffn=None))),
    "sandwich": varied(blocks=(dataclasses.replace(_block, order="sandwich"),)),
    "parallel": varied(blocks=(dataclasses.replace(_block, order="parallel"),)),
    "alibi": varied(bias=spec.ALiBi()),
    "capped": varied(blocks=(dataclasses.replace(_block, mixer=spec.Attention(4, cap=5.0)),)),
}


@pytest.mark.parametrize("kind", VARIANTS)
def test_sites_are_a_function_of_the_spec_and_each_fires_once(kind):
    of = VARIANTS[kind]
    model, names = models.build(of).eval(), models.sites(of)
    for seed in range(2):
        tap = Recorder(names)
        inputs = [x.float() if x.is_floating_point() else x for x in reads(of, length=5 + seed)]
        model(*inputs, tap=tap)  # a Recorder refuses a name that fires twice
        assert tap.seen.keys() == names.keys()
    stack = of.decoder if isinstance(of, spec.Paired) else of.stack
    ends = [name for name in names if re.fullmatch(r"(decoder\.)?blocks\.\d+\.out", name)]
    assert len(ends) == stack.layers, "a depth is a place in the run and not a module"
    shapes = models.sites(of, 2, 5)
    first = tuple(tap.seen["logits"].shape[:1])
    assert shapes["logits"][:1] == first == (2,)


@pytest.fixture(scope="module")
def stripped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stripped")
    write_stripped(folder, NAME)
    return folder


@pytest.mark.parametrize(
    ("preset", "training"),
    [("gpt2", False), ("small", True), ("bert", False), ("t5", False), ("vaswani", True), ("vit", False)],
)
def test_the_compiled_graph_has_no_trace_of_taps(stripped, preset, training):
    jobs: list[Job] = [(package, preset, training, "") for package in ("cutaway", NAME)]
    ours, without = graphs(*jobs, beside=stripped)
    assert ours == without.replace(f"ops.{NAME}.", "ops.cutaway."), "its operators have its name"
    assert len(ours.splitlines()) > 20


def test_a_trace_of_taps_would_be_seen(tmp_path):
    jobs: list[Job] = [("cutaway", "gpt2", False, look) for look in ("", "blocks.0.attn.pattern")]
    ours, looked = graphs(*jobs, beside=tmp_path)
    assert looked != ours and "pattern_BHLM" in looked.rpartition("return")[2]


def test_a_difference_in_the_source_would_be_seen(tmp_path):
    write_stripped(tmp_path, "cutaway_spoiled", ("self.token(tokens_BL)", "self.token(tokens_BL + 0)"))
    jobs: list[Job] = [(package, "gpt2", False, "") for package in ("cutaway", "cutaway_spoiled")]
    ours, spoiled = graphs(*jobs, beside=tmp_path)
    assert ours != spoiled


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("def f(x, tap=off):\n    return tap('a', g(x, tap.at('b')))", "def f(x):\n    return g(x)"),
        ("def f(x, tap, name):\n    return norm(x, tap.at(name))", "def f(x, name):\n    return norm(x)"),
        ("if tap.wants('a'):\n    y = 1\nz = 2", "z = 2"),
        (
            "if d or tap.edits('a'):\n    y = 1\nelse:\n    y = 2",
            "if d or False:\n    y = 1\nelse:\n    y = 2",
        ),
        ("tap = standing(self, tap)\nx = 1", "x = 1"),
        ("inner = tap.inside('b')\ny = h(x, tap=inner)\ntap.gather('b', inner)", "y = h(x)"),
        (
            "for p in range(n):\n    inner = tap.during(p, n)\n    y = h(y, tap=inner.at('b'))\ntap.join()",
            "for p in range(n):\n    y = h(y)",
        ),
    ],
)
def test_stripping(source, want):
    assert strip(source) == want
