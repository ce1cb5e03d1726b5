"""The report in a real browser: it draws, keeps its state in the address, runs nothing but its own script."""

import os
import shutil
import subprocess
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
import torch

from cutaway import spec
from cutaway.data.tasks import StringTask
from cutaway.data.tokenizer import byte_tokenizer
from cutaway.study.report import write_report
from tests.unit.generate.tiny import filled

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine to open the page with"),
]
TEXT = "The cat sat on the mat. <img src=x onerror=\"document.title='owned'\"> The cat sat."


class Dom(HTMLParser):
    """The page after its script ran: every element as (tag, attributes), and all text outside of scripts."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.inside = [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self.inside and self.inside[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag, **wanted):
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in wanted.items()}
        return [
            found
            for name, found in self.elements
            if name == tag and all(found.get(key) == value for key, value in wanted.items())
        ]


def opened(path, view="", width=1400):
    """The page's elements after it was opened, and what the browser complained about."""
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={path.parent}/browser",
        f"--window-size={width},6000", "--virtual-time-budget=20000", "--enable-logging=stderr", "--dump-dom",
        f"{path.as_uri()}{view}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Dom(done.stdout), complaints


def written(path, plan, tokenizer, text, run=None):
    given = SimpleNamespace(
        model=filled(plan, dtype=torch.float32),
        tokenizer=tokenizer,
        length=512,
        path=None,
        step=None,
        labels=(),
    )
    write_report(given, text, path, run=run)
    return path


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    lines = [
        '{"step": 1, "loss": 5.5, "seconds": 1}',
        '{"step": 2, "loss": 5, "seconds": 2, "sample": "<i>"}',
        '{"step": 2, "validation": 4.5, "test_bleu": 39.29, "test_accuracy": 0.625}',
    ]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return written(
        folder / "report.html", spec.small(3, 32, 4, 2, vocab=257), byte_tokenizer(), TEXT, run=folder
    )


def test_every_view_draws_and_nothing_complains(report):
    dom, complaints = opened(report)
    assert complaints == []
    assert [found["id"] for found in dom.all("section")] == [
        "training", "text", "attention", "lens", "effects", "shapes",
    ]  # fmt: skip
    assert int(dom.all("html")[0]["data-ready"]) > 0
    assert dom.text.count("39.3") == 2, "in the head and under the curves"
    assert "62.5\u00a0%" in dom.text and "4.500" in dom.text and "BLEU on the test pairs" in dom.text
    heads = dom.all("button", role="radio")
    assert len(heads) == 12 and len(dom.all("canvas")) == 12 + 2  # small ones, large one, strip of the lens
    assert len([b for b in dom.all("button") if "data-part" in b]) == 3 * (4 + 1 + 1 + 1)
    assert len([s for s in dom.all("span") if "data-at" in s]) == 3 * len(TEXT.encode())
    assert dom.all("div", data_n="3") and dom.all("path", class_="loss")


def test_text_of_the_reader_never_becomes_markup(report):
    dom, _ = opened(report)
    assert dom.all("img") == []
    assert "onerror" in dom.text and "<i>" in dom.text


def test_the_address_says_what_is_shown(report):
    dom, complaints = opened(report, "#layer=2&head=1&at=7&part=5&measure=true&span=24&view=effects")
    assert complaints == []
    chosen = dom.all("button", aria_checked="true")
    assert [(b["data-layer"], b["data-head"]) for b in chosen] == [("2", "1")]
    assert {s["data-at"] for s in dom.all("span", role="option", aria_selected="true")} == {"7"}
    assert [b["data-part"] for b in dom.all("button", aria_pressed="true") if "data-part" in b] == ["5"]


@pytest.mark.parametrize(
    "view", ["#layer=99&head=99&at=9999&part=9999&kind=9", "#at=x&layer=-1&axis=%00&__proto__=1"]
)
def test_a_wrong_address_is_harmless(report, view):
    dom, complaints = opened(report, view)
    assert complaints == [] and dom.all("html")[0].get("data-ready")
    assert len(dom.all("button", aria_checked="true")) == 1


@pytest.mark.parametrize("width", [1400, 700])
def test_the_large_picture_fits_the_window(report, width):
    dom, _ = opened(report, width=width)
    large = dom.all("canvas", class_="matrix")[0]
    assert width / 3 < int(large["width"]) < width


def test_the_policy_stops_a_changed_script(report):
    changed = report.with_name("changed.html")
    changed.write_text(report.read_text("utf-8").replace('"use strict";', '"use strict"; /* changed */', 1))
    dom, complaints = opened(changed)
    assert "data-ready" not in dom.all("html")[0] and dom.all("section") == []
    assert any("Content Security Policy" in line for line in complaints)


def test_a_pair_opens_on_its_cross_attention(tmp_path):
    path = written(
        tmp_path / "report.html", spec.t5(2, 16, 4, 24, 31), StringTask(0).tokenizer(), ("Rcutaway", "yaw")
    )
    dom, complaints = opened(path)
    assert complaints == []
    assert "Cross-attention: block" in dom.text and "Source, read by the encoder" in dom.text


def test_a_model_that_sees_all_opens(tmp_path):
    path = written(tmp_path / "report.html", spec.bert(2, 16, 4, 257, 64), byte_tokenizer(), "A text.")
    dom, complaints = opened(path)
    assert complaints == []
    assert [found["id"] for found in dom.all("section")] == ["text", "attention", "lens", "shapes"]
