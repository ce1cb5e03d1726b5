"""The report says what the model computed, and nothing a text says becomes part of the page itself.

B batch   L position   M memory position   H head   K head width
"""

import base64
import json
import math
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cutaway import spec
from cutaway.data.tasks import START_ID, StringTask
from cutaway.data.tokenizer import byte_tokenizer, character_tokenizer
from cutaway.errors import ConfigError, FileFormatError, LimitError
from cutaway.generate.translate import translate
from cutaway.models import sites
from cutaway.study import ablate, edit, report, skip, trace
from cutaway.study.figures import unit_of
from cutaway.study.history import read_history
from cutaway.study.legend import describe
from cutaway.study.packing import STEPS, pack_patterns
from cutaway.study.report import SCRIPTS, digest, write_report
from tests.unit.generate.tiny import filled

TEXT = "The naïve cat sat on the mat; the cat sat.\n"
HOSTILE = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)> {{data}} \u2028"
PAGE = Path(report.__file__).parent / "page"


class Parsed(HTMLParser):
    """A page as a browser reads it: what stands in each script and style, and the tags."""

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.scripts: dict[str, str] = {}
        self.styles: list[str] = []
        self.tags: list[str] = []
        self.policy, self.open = "", None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.tags.append(tag)
        if named.get("http-equiv") == "Content-Security-Policy":
            self.policy = named["content"]
        self.open = named.get("id", "main") if tag == "script" else "style" if tag == "style" else None
        if tag == "script":
            assert self.open not in self.scripts and "src" not in named
            self.scripts[self.open] = ""

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, data):
        if self.open == "style":
            self.styles.append(data)
        elif self.open:
            self.scripts[self.open] += data

    @property
    def content(self):
        return json.loads(self.scripts["report"])

    def numbers(self, ref):
        return np.frombuffer(self.bytes(ref["blob"]), ref["type"]).reshape(ref["shape"])

    def bytes(self, name):
        return zlib.decompress(base64.b64decode(self.scripts[name]))

    def pattern(self, place, depth, head):
        """One head's weights, unpacked as the page does it."""
        kind = self.content["attention"][place]
        L, M = (len(self.content["streams"][kind[side]]) for side in ("queries", "memory"))
        codes = np.frombuffer(self.bytes(f"pattern-{place}-{depth}"), np.uint8).reshape(
            kind["heads"][depth], -1
        )
        weights = np.zeros((L, M))
        where = np.tril_indices(L) if kind["causal"] else np.indices((L, M)).reshape(2, -1)
        weights[tuple(where)] = (codes[head] / kind["steps"]) ** 2
        return weights


def session(plan, tokenizer=None, length=64, path=None, **more):
    model = filled(plan, dtype=torch.float32)
    return SimpleNamespace(
        model=model,
        tokenizer=tokenizer or byte_tokenizer(),
        length=length,
        path=path,
        **{"step": None, "labels": (), **more},
    )


def page(tmp_path, given, text, run=None):
    write_report(given, text, tmp_path / "report.html", run=run)
    return Parsed((tmp_path / "report.html").read_text("utf-8"))


@pytest.fixture(scope="module")
def single():
    return session(spec.small(3, 32, 4, 2, vocab=257))


@pytest.fixture(scope="module")
def shown(single, tmp_path_factory):
    return page(tmp_path_factory.mktemp("single"), single, TEXT)


@pytest.fixture(scope="module")
def pair():
    return session(spec.t5(2, 16, 4, 24, 31), StringTask(0).tokenizer())


@pytest.fixture(scope="module")
def shown_pair(pair, tmp_path_factory):
    return page(tmp_path_factory.mktemp("pair"), pair, ("Rcutaway", "yaw"))


def nats(model, ids):
    with torch.no_grad():
        logits = model(torch.tensor([ids]))[0]
    return F.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none").numpy(), logits


def test_losses_and_likeliest_tokens_are_the_model_s(single, shown):
    ids = shown.content["streams"]["text"]
    assert ids == list(TEXT.encode())
    expected, logits = nats(single.model, ids)
    assert shown.content["text"]["losses"][0] is None
    np.testing.assert_allclose(shown.content["text"]["losses"][1:], expected, rtol=1e-4)
    chances, tokens = logits.softmax(-1).topk(5)
    for place in (0, 7, len(ids) - 1):
        said = shown.content["text"]["options"][place]
        assert [i for i, _ in said] == tokens[place].tolist()
        np.testing.assert_allclose([p for _, p in said], chances[place], rtol=1e-4)
    with pytest.raises(AssertionError):  # one place off
        np.testing.assert_allclose(shown.content["text"]["losses"][2:], expected[:-1], rtol=1e-4)


def test_patterns_are_the_softmax_of_queries_times_keys(single, shown):
    ids = shown.content["streams"]["text"]
    seen = trace(single.model, ids, keep=["blocks.2.attn.q_rotated", "blocks.2.attn.k_rotated"])
    q_HLK, k_GLK = (seen[f"blocks.2.attn.{name}"][0].double() for name in ("q_rotated", "k_rotated"))
    L, K = q_HLK.shape[1:]
    future_LM = torch.ones(L, L, dtype=torch.bool).triu(1)
    kind = shown.content["attention"][0]
    assert (kind["heads"], kind["steps"], kind["causal"]) == ([4, 4, 4], 255, True)
    patterns = []
    for head in range(4):
        scores_LM = q_HLK[head] @ k_GLK[head // 2].T / math.sqrt(K)
        patterns.append(scores_LM.masked_fill(future_LM, -math.inf).softmax(-1).numpy())
    for head, expected in enumerate(patterns):
        allowed = np.sqrt(expected) / 255 + (0.5 / 255) ** 2 + 1e-6
        got = shown.pattern(0, 2, head)
        assert (np.abs(got - expected) <= allowed).all()
        assert not (np.abs(got - patterns[head - 1]) <= allowed).all()


def test_lens_ends_at_the_model_s_own_prediction(single, shown):
    lens = shown.content["lens"]
    assert lens["rows"] == ["blocks.0.in", *(f"blocks.{depth}.out" for depth in range(3))]
    options, losses = shown.numbers(lens["options"]), shown.numbers(lens["losses"])
    _, logits = nats(single.model, shown.content["streams"]["text"])
    assert (options[-1] == logits.topk(5).indices.numpy()).all()
    assert not (options[-2] == options[-1]).all()
    np.testing.assert_allclose(losses[-1], shown.content["text"]["losses"][1:], rtol=1e-4)


def test_effects_are_those_of_editing_the_model(single, shown):
    ids, effects = shown.content["streams"]["text"], shown.content["effects"]
    losses = shown.numbers(effects["losses"])
    assert losses.shape == (3 * (4 + 1 + 1 + 1), len(ids) - 1)
    changes = {
        ("blocks.1.attn.mix", 2): {"blocks.1.attn.mix": ablate(heads=[2])},
        ("blocks.0.attn.out", None): {"blocks.0.attn.out": ablate()},
        ("blocks.2.ffn.out", None): {"blocks.2.ffn.out": ablate()},
        ("blocks.1.out", None): skip("blocks.1"),
    }
    found = {}
    for (tap, head), change in changes.items():
        place = next(i for i, p in enumerate(effects["parts"]) if (p["tap"], p["head"]) == (tap, head))
        with edit(single.model, change):
            expected, logits = nats(single.model, ids)
        np.testing.assert_allclose(losses[place], expected, rtol=1e-3, atol=1e-4)
        part = effects["parts"][place]
        assert part["loss"] == pytest.approx(expected.mean(), rel=1e-3)
        assert [i for i, _ in part["next"]] == logits[-1].topk(5).indices.tolist()
        found[tap] = part["loss"]
    assert len({*found.values(), effects["before"]}) == 5  # no part is like another, or like none


def test_shapes_are_those_of_a_real_pass(pair, shown_pair):
    streams = shown_pair.content["streams"]
    seen = trace(pair.model, (streams["source"], streams["text"]))
    said = {name: tuple(shape) for name, shape, _, _ in shown_pair.content["shapes"]}
    assert said == {name: tuple(value.shape) for name, value in seen.items()}
    assert said["decoder.blocks.0.cross.pattern"] == (1, 4, 4, 8)


def test_a_pair_shows_three_kinds_of_attention(pair, shown_pair):
    kinds = shown_pair.content["attention"]
    assert [(k["queries"], k["memory"], k["causal"]) for k in kinds] == [
        ("source", "source", False),
        ("text", "text", True),
        ("text", "source", False),
    ]
    streams = shown_pair.content["streams"]
    tap = "decoder.blocks.1.cross.pattern"
    expected = trace(pair.model, (streams["source"], streams["text"]), keep=tap)[tap][0, 3].numpy()
    np.testing.assert_allclose(shown_pair.pattern(2, 1, 3), expected, atol=1 / 255)
    words = shown_pair.content["vocabulary"]
    assert words[str(streams["text"][0])] == ["<|start|>", "special"]
    sides = {part["stack"] for part in shown_pair.content["effects"]["parts"]}
    assert sides == {"encoder.", "decoder."}


def test_a_model_that_sees_all_has_no_losses(tmp_path):
    got = page(tmp_path, session(spec.bert(2, 16, 4, 257, 64), length=None), TEXT).content
    assert got["predicts"] is False and got["text"]["losses"] is None
    assert "effects" not in got and "losses" not in got["lens"]
    assert got["attention"][0]["causal"] is False


def test_tokens_that_are_no_whole_character_are_spelled_in_bytes(shown):
    words = shown.content["vocabulary"]
    assert words[str(0xC3)] == ["\\xc3", "bytes"] and words[str(ord("a"))] == ["a", "text"]


def test_what_a_text_says_stays_data(tmp_path, shown):
    letters = character_tokenizer(HOSTILE + "0123456789")
    given = session(spec.small(2, 16, 2, vocab=letters.vocab), letters, length=200)
    hostile = page(tmp_path, given, HOSTILE)
    assert [t for t in hostile.tags if t != "script"] == [t for t in shown.tags if t != "script"]
    assert set(hostile.scripts) == {
        "report", "main", "lens-options", "lens-probabilities", "lens-losses", "effect-losses",
        "pattern-0-0", "pattern-0-1",
    }  # fmt: skip
    ids = hostile.content["streams"]["text"]
    assert "".join(hostile.content["vocabulary"][str(i)][0] for i in ids) == HOSTILE
    assert hostile.scripts["main"] == shown.scripts["main"]


def test_the_policy_lets_only_the_page_s_own_script_run(shown):
    directives = dict(part.strip().split(" ", 1) for part in shown.policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == f"'{digest(shown.scripts['main'])}'"
    assert directives["style-src"] == f"'{digest(shown.styles[0])}'"
    assert digest(shown.scripts["main"] + " ") not in shown.policy


def test_the_page_needs_no_network_and_makes_no_markup_of_text(shown):
    addresses = re.findall(r"https?://[^\"'\s]+", shown.scripts["main"] + shown.styles[0])
    assert addresses == ["http://www.w3.org/2000/svg"]  # a namespace's name, never fetched
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|setTimeout\(\"|fetch\("
    )
    assert re.findall(forbidden, shown.scripts["main"]) == []
    assert {p.stem for p in PAGE.glob("*.js")} == set(SCRIPTS)


@pytest.mark.parametrize(
    ("plan", "text", "error", "says"),
    [
        (spec.vit(1, 16, 2, 8, 4), "text", ConfigError, "reads something else"),
        (spec.small(1, 16, 2, vocab=257), ("a", "b"), ConfigError, "any other model one text"),
        (spec.small(1, 16, 2, vocab=257), "a", LimitError, "two or more"),
        (spec.small(1, 16, 2, vocab=257), "", LimitError, "two or more"),
        (spec.t5(1, 16, 2, 24, 257), ("", "b"), LimitError, "two or more"),
    ],
)
def test_what_cannot_be_shown_is_refused(tmp_path, plan, text, error, says):
    given = session(plan, StringTask(0).tokenizer()) if isinstance(plan, spec.Paired) else session(plan)
    with pytest.raises(error, match=says):
        page(tmp_path, given, text)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("plan", "length", "most"),
    [
        (spec.small(1, 16, 2, vocab=257), 9, 9),
        (spec.gpt2(1, 16, 2, 257, 12), None, 12),
        (spec.small(1, 16, 2, vocab=257), None, 512),
    ],
)
def test_a_long_text_is_cut_and_the_page_says_so(tmp_path, plan, length, most):
    got = page(tmp_path, session(plan, length=length), "ab" * 300).content
    assert len(got["streams"]["text"]) == most
    assert got["notices"] == [f"Shown are the first {most} of the text's 600 tokens."]


def test_history_of_a_run(tmp_path, single):
    lines = [
        {"step": 1, "loss": 5.5, "grad_norm": 1.0, "tokens": 64, "seconds": 0.5},
        {"step": 1, "sample": "<b>one</b>"},
        {"step": 2, "loss": 5.25, "tokens": math.nan},
        {"step": 2, "validation_sample": 5.125},
        {"step": 3, "validation": 5.0, "validation_tail": 4.9, "bits_per_byte": 7.5, "brand_new": 1},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "facts.json").write_text('{"commit": "abc", "precision": "fp32", "seed": 3}')
    got = page(tmp_path, single, TEXT, run=tmp_path).content
    assert got["training"]["points"] == [
        {"step": 1, "loss": 5.5, "tokens": 64, "seconds": 0.5},
        {"step": 2, "loss": 5.25, "validation_sample": 5.125},
        {"step": 3, "validation": 5.0},
    ]
    assert got["training"]["samples"] == [[1, "<b>one</b>"]]
    assert got["training"]["judged"] == [
        ["bits_per_byte", 7.5, "number", "bits a byte on all the text put aside"],
        ["validation", 5.0, "number", "nats a token on all that was put aside"],
        ["validation_tail", 4.9, "number", "nats a token on its last tenth"],
        ["brand_new", 1.0, "number", "brand new"],
    ]
    assert ["commit", "abc"] in got["facts"] and ["seed", "3"] in got["facts"]


def test_a_pair_without_a_target_shows_what_the_model_writes(tmp_path, pair):
    got = page(tmp_path, pair, "Rcutaway").content
    written = translate(pair.model, pair.tokenizer, ["Rcutaway"])[0]
    assert got["streams"]["text"] == [START_ID, *written.tokens[: len(written.tokens) - written.ended]]
    assert got["notices"] == ["The target is what the model itself writes for the source, by a beam of 5."]
    silent = Mock(return_value=[replace(written, tokens=(pair.tokenizer.end,), ended=True)])
    with pytest.MonkeyPatch.context() as patch, pytest.raises(LimitError, match="writes nothing"):
        patch.setattr("cutaway.study.specimen.Translator.translate", silent)
        page(tmp_path, pair, "Rcutaway")


def test_a_text_that_is_seen_whole_stands_in_its_template(tmp_path):
    given = session(spec.bert(1, 16, 2, 257, 32))
    got = page(tmp_path, given, "ab").content
    end = given.tokenizer.end
    assert got["streams"]["text"] == [end, *b"ab", end] and "classes" not in got
    assert len(page(tmp_path, given, "ab" * 50).content["streams"]["text"]) == 32


@torch.no_grad()
def test_a_classifier_tells_its_classes(tmp_path):
    plan = replace(spec.bert(1, 16, 2, 257, 32), head=spec.Classify(3))
    got = page(tmp_path, session(plan, labels=("bad", "so-so", "good")), "ab").content["classes"]
    given = session(plan)
    logits = given.model(torch.tensor([[given.tokenizer.end, *b"ab", given.tokenizer.end]]))[0]
    wanted = dict(zip(("bad", "so-so", "good"), logits.softmax(-1).tolist(), strict=True))
    assert dict(map(tuple, got)) == pytest.approx(wanted, rel=1e-4)
    assert [name for name, _ in got] == sorted(wanted, key=lambda name: -wanted[name])
    assert got[0][1] > 0.5, "even chances would hide mistakes"
    assert [name for name, _ in page(tmp_path, given, "ab").content["classes"]] != [n for n, _ in got]


@pytest.mark.parametrize(
    ("head", "unit"), [(spec.NextToken(), "nats a hidden token"), (spec.Classify(3), "nats a sentence")]
)
def test_what_a_loss_is_counted_in(head, unit):
    assert unit_of(filled(replace(spec.bert(1, 16, 2, 257, 32), head=head))) == unit


def test_a_long_history_is_thinned_and_the_page_says_so(tmp_path, single):
    lines = [{"step": step, "loss": 1.0} for step in range(1, 9001)] + [
        {"step": 4001, "validation_sample": 2}
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    training = page(tmp_path, single, TEXT, run=tmp_path).content["training"]
    assert training["stride"] == 3 and len(training["points"]) == 3000 + 2  # and the judged, and the last
    assert {"step": 4001, "loss": 1.0, "validation_sample": 2.0} in training["points"]
    assert training["points"][-1]["step"] == 9000


def test_a_run_without_metrics_has_no_curves(tmp_path, single):
    assert page(tmp_path, single, TEXT, run=tmp_path).content["training"]["points"] == []


@pytest.mark.parametrize("line", ["{", "[1]", '{"loss": 1}', '{"step": null}', '"step"'])
def test_damaged_metrics_are_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n' + line + "\n")
    with pytest.raises(FileFormatError, match="line 2 is not a JSON object with a step"):
        read_history(tmp_path)


def test_damaged_facts_are_named(tmp_path):
    (tmp_path / "facts.json").write_text("[]")
    with pytest.raises(FileFormatError, match=r"facts\.json: not a JSON object"):
        read_history(tmp_path)


@pytest.mark.parametrize("preset", ["gpt2", "llama3", "bert", "t5", "vit", "vaswani", "small", "quick"])
def test_the_legend_knows_every_tap(preset):
    plan = spec.PRESETS[preset]()
    for name, shape in sites(plan).items():
        axes, meaning = describe(name, shape, plan.width)
        assert len(axes) == len(shape) and meaning, name
        assert all(size == 1 for axis, size in zip(axes, shape, strict=True) if axis == "1"), name
        assert axes[-1] != "D" or shape[-1] == plan.width, name


def patterns_of(sharpness, heads=12, length=512):
    """Causal patterns, from near-uniform to one-hot as `sharpness` grows."""
    scores_HLM = torch.randn(heads, length, length, generator=torch.Generator().manual_seed(0)) * sharpness
    future_LM = torch.ones(length, length, dtype=torch.bool).triu(1)
    return scores_HLM.masked_fill(future_LM, -math.inf).softmax(-1).numpy()


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 3.0, 30.0])
def test_twelve_layers_of_twelve_heads_at_512_tokens_fit(sharpness):
    pattern_HLM = patterns_of(sharpness)
    packed = pack_patterns([pattern_HLM], 16_000_000 // 12, causal=True)
    assert len(packed.layers[0]) <= 16_000_000 / 12
    codes = np.frombuffer(zlib.decompress(base64.b64decode(packed.layers[0])), np.uint8).reshape(12, -1)
    expected = pattern_HLM[:, *np.tril_indices(512)]
    error = np.abs((codes / packed.steps) ** 2 - expected)
    bound = np.sqrt(expected) / packed.steps + (0.5 / packed.steps) ** 2 + 1e-6
    assert (error <= bound).all() and not (error <= bound / 2).all()


def test_steps_get_coarser_until_the_patterns_fit():
    pattern_HLM = patterns_of(2.0, heads=2, length=64)
    sizes = [len(pack_patterns([pattern_HLM], 10**9, True).layers[0])]
    steps = []
    for most in (10**9, sizes[0] - 1, 1):
        packed = pack_patterns([pattern_HLM], most, causal=True)
        steps.append(packed.steps)
    assert steps[0] == STEPS[0] and steps[1] == STEPS[1] and steps[2] == STEPS[-1]
