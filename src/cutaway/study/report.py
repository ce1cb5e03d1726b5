"""The report: one self-contained page that shows what a model makes of a text, and how it was trained.

The page needs no network and runs no code but its own: a policy in its head names the digest of its one script.
What the model or the text says reaches the page as data and is only ever shown as text.
"""

import base64
import hashlib
import html
import json
import math
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

import cutaway
from cutaway import spec, store
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import ConfigError, FileFormatError, LimitError
from cutaway.models import AnyModel, sites
from cutaway.study.figures import Prediction, Specimen, attentions, effects, lens
from cutaway.study.legend import LETTERS, describe
from cutaway.study.packing import pack

MOST_TOKENS = 512
MOST_POINTS = 4000
SCRIPTS = ("page", "drawing", "tokens", "training", "text", "attention", "lens", "effects", "shapes", "start")
START = "<|start|>"


class Session(Protocol):
    """What the report needs of `cutaway.session.Session`."""

    model: AnyModel
    tokenizer: Tokenizer
    length: int | None
    path: Path | None


def write_report(
    session: Session, text: str | tuple[str, str], path: Path | str, *, run: Path | str | None = None
) -> None:
    """Write the page about `text` (a pair of source and target for an encoder-decoder) to the file `path`.

    With `run`, the page also shows how the model was trained, from RUN/metrics.jsonl. Raises ConfigError for a model
    that reads no tokens and for a text that is a pair where the model is not or the other way round, LimitError for a
    text of fewer than two tokens.
    """
    page = Page(session, text)
    if run is not None:
        page.add_training(Path(run))
    page.add_figures()
    store.write_file(Path(path), page.render().encode("utf-8"))


class Page:
    """What is known so far, as the data of the page: `content` as JSON, `blobs` of numbers beside it."""

    def __init__(self, session: Session, text: str | tuple[str, str]):
        self.model, self.tokenizer = session.model, session.tokenizer
        self.plan = self.model.plan
        self.blobs: dict[str, str] = {}
        self.words: set[int] = set()
        most = min(MOST_TOKENS, session.length or MOST_TOKENS)
        source, target = self._sides(text)
        self.specimen, notices = self._read(source, target, most)
        self.name = Path(session.path).resolve().name if session.path else "a model in memory"
        self.content: dict[str, Any] = {
            "name": self.name,
            "notices": notices,
            "facts": self._facts(session),
            "size": self._size(),
            "streams": self._streams(),
            "predicts": self.specimen.predicts,
        }

    def add_training(self, run: Path) -> None:
        """Loss curves and samples from the run's metrics."""
        points, samples = read_metrics(run / "metrics.jsonl")
        stride = max(1, math.ceil(len(points) / MOST_POINTS))
        kept = [p for i, p in enumerate(points) if i % stride == 0 or "validation" in p or p is points[-1]]
        self.content["training"] = {"points": kept, "stride": stride, "samples": samples}
        if points:
            self.content["facts"].insert(1, ["step", f"{points[-1]['step']:,}"])

    def add_figures(self) -> None:
        """All that the model has to say about the text."""
        specimen = self.specimen
        rows = lens(specimen)
        if rows:
            self.content["text"] = self._prediction(rows[-1][1])
            self.content["lens"] = {
                "rows": [name for name, _ in rows],
                "options": self._blob("lens-options", np.stack([r.options_LE for _, r in rows]), "int32"),
                "probabilities": self._blob(
                    "lens-probabilities", np.stack([r.probability_LE for _, r in rows]), "float32"
                ),
                "losses": self._blob("lens-losses", np.stack([r.losses for _, r in rows]), "float32")
                if specimen.predicts
                else None,
            }
            self.words.update(int(i) for _, r in rows for i in np.unique(r.options_LE))
        self.content["attention"] = [self._attention(number, a) for number, a in enumerate(attentions(specimen))]
        if specimen.predicts:
            found = effects(specimen)
            self.content["effects"] = {
                "parts": [
                    {
                        "tap": e.tap,
                        "kind": e.kind,
                        "stack": e.stack,
                        "layer": e.layer,
                        "head": e.head,
                        "loss": number(e.losses.mean()),
                        "next": self._options(e.options, e.probabilities),
                    }
                    for e in found
                ],
                "losses": self._blob("effect-losses", np.stack([e.losses for e in found]), "float32"),
            }
        self.content["shapes"] = self._shapes()
        self.content["letters"] = LETTERS
        self.content["vocabulary"] = {str(i): self._label(i) for i in sorted(self.words)}

    def render(self) -> str:
        """The page, whole."""
        files = resources.files("cutaway.study") / "page"
        style = (files / "report.css").read_text("utf-8")
        script = '"use strict";\n' + "\n".join((files / f"{n}.js").read_text("utf-8") for n in SCRIPTS)
        policy = (
            f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'; img-src blob: data:; "
            "base-uri 'none'; form-action 'none'"
        )
        # In a script element only "<" could end it or open a comment; in JSON it is a character like any other.
        data = json.dumps(self.content, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
        blobs = "\n".join(
            f'<script type="application/octet-stream" id="{name}">{text}</script>'
            for name, text in self.blobs.items()
        )
        filled = (files / "report.html").read_text("utf-8")
        parts = {
            "title": html.escape(f"Inside {self.name}"),
            "policy": policy,
            "style": style,
            "script": script,
            "blobs": blobs,
            "data": data,
        }
        head, *rest = filled.split("{{")
        return head + "".join(parts[name] + tail for name, tail in (r.split("}}", 1) for r in rest))

    def _sides(self, text: str | tuple[str, str]) -> tuple[str | None, str]:
        paired = isinstance(self.plan, spec.Paired)
        inputs = [self.plan.source] if paired else [self.plan.input]
        if not all(isinstance(one, spec.Tokens) for one in inputs):
            raise ConfigError("the report shows models that read tokens; this one reads something else")
        if paired == isinstance(text, str):
            raise ConfigError(
                "an encoder-decoder is shown with a pair (source, target), any other model with one text"
            )
        return (None, text) if isinstance(text, str) else text

    def _read(self, source: str | None, target: str, most: int) -> tuple[Specimen, list[str]]:
        notices = []

        def cut(side: str, text: str, room: int) -> np.ndarray:
            ids = self.tokenizer.encode(text)
            if len(ids) > room:
                notices.append(f"Shown are the first {room:,} of the {side}'s {len(ids):,} tokens.")
            return ids[:room]

        if source is None:
            ids = cut("text", target, most)
            if len(ids) < 2:
                raise LimitError(f"a text of {len(ids)} tokens: the report needs two or more")
            return Specimen(self.model, ids), notices
        start = self.tokenizer.inner.token_to_id(START)
        if start is None:
            start = self.tokenizer.end
        if start is None:
            raise ConfigError(f"the tokenizer has no {START} for the decoder to begin with")
        ids = np.concatenate([[start], cut("target", target, most - 1)])
        from_source = cut("source", source, most)
        if len(ids) < 2 or not len(from_source):
            raise LimitError("an empty source or target: the report needs a token of each")
        return Specimen(self.model, ids, from_source), notices

    def _streams(self) -> dict[str, list[int]]:
        streams = {"text": self.specimen.ids}
        if self.specimen.source is not None:
            streams["source"] = self.specimen.source
        for ids in streams.values():
            self.words.update(int(i) for i in ids)
        return {name: [int(i) for i in ids] for name, ids in streams.items()}

    def _facts(self, session: Session) -> list[list[str]]:
        parameters = sum(p.numel() for p in self.model.parameters())
        stacks = self.specimen.stacks
        kinds = Counter(str(p.dtype).removeprefix("torch.") for p in self.model.parameters())
        layers = " + ".join(str(stack.layers) for stack in stacks.values())
        mixers = [b.mixer for stack in stacks.values() for b in stack.blocks]
        heads = sorted({m.heads for m in mixers if isinstance(m, spec.Attention)})
        device = next(self.model.parameters()).device
        return [
            ["model", self.name],
            ["parameters", f"{parameters:,}"],
            ["layers", layers],
            ["heads", ", ".join(map(str, heads)) or "none"],
            ["width", f"{self.plan.width:,}"],
            ["vocabulary", f"{self.tokenizer.vocab:,} tokens"],
            ["numbers", ", ".join(kinds)],
            ["run", str(session.path) if session.path else "none: not saved"],
            ["read on", f"{device}, {torch.get_num_threads()} threads"],
            ["versions", f"Cutaway {cutaway.__version__}, PyTorch {torch.__version__}"],
        ]

    def _size(self) -> dict[str, Any]:
        text = self.tokenizer.decode_bytes(self.specimen.ids)
        first = self.tokenizer.token_bytes(int(self.specimen.ids[0]))
        return {
            "vocab": self.tokenizer.vocab,
            "bytes": len(text) - len(first),
            "dtype": str(next(self.model.parameters()).dtype).removeprefix("torch."),
        }

    def _prediction(self, prediction: Prediction) -> dict[str, Any]:
        options = [
            self._options(ids, values)
            for ids, values in zip(prediction.options_LE, prediction.probability_LE, strict=True)
        ]
        if prediction.losses is None or prediction.ranks is None:
            return {"options": options}
        losses = [None, *map(number, prediction.losses)]
        return {"options": options, "losses": losses, "ranks": [None, *map(int, prediction.ranks)]}

    def _attention(self, number: int, attention) -> dict[str, Any]:
        for layer, text in enumerate(attention.packed.layers):
            self.blobs[f"pattern-{number}-{layer}"] = text
        return {
            "title": attention.title,
            "tap": attention.tap,
            "queries": attention.queries,
            "memory": attention.memory,
            "heads": attention.heads,
            "steps": attention.packed.steps,
            "causal": attention.packed.causal,
        }

    def _shapes(self) -> list[list[Any]]:
        length = len(self.specimen.ids)
        return [
            [name, list(shape), *describe(name, shape)]
            for name, shape in sites(self.plan, length=length).items()
        ]

    def _options(self, ids: np.ndarray, probabilities: np.ndarray) -> list[list[Any]]:
        self.words.update(int(i) for i in ids)
        return [[int(i), number(p)] for i, p in zip(ids, probabilities, strict=True)]

    def _blob(self, name: str, values: np.ndarray, kind: str) -> dict[str, Any]:
        self.blobs[name] = pack(values.astype(kind))
        return {"blob": name, "type": kind, "shape": list(values.shape)}

    def _label(self, token: int) -> list[Any]:
        """What to show for a token, and whether it is text, bytes that are no whole character, or special."""
        try:
            data = self.tokenizer.token_bytes(token)
        except LimitError:  # a vocabulary padded beyond the tokenizer's
            return [f"#{token}", "special"]
        if not data:
            return [self.tokenizer.token_name(token), "special"]
        try:
            return [data.decode("utf-8"), "text"]
        except UnicodeDecodeError:
            return ["".join(f"\\x{value:02x}" for value in data), "bytes"]


def read_metrics(path: Path) -> tuple[list[dict[str, float]], list[list[Any]]]:
    """Points of the curves and samples, in order of their steps; none where the file is not there.

    Raises FileFormatError where a line is not a JSON object with a step.
    """
    points, samples = [], []
    for place, line in enumerate(store.read_lines(path), 1):
        try:
            record = json.loads(line)
            step = int(record["step"])
        except (ValueError, TypeError, KeyError) as problem:
            raise FileFormatError(
                path, f"line {place} is not a JSON object with a step ({problem})"
            ) from None
        values = {k: number(record[k]) for k in ("loss", "validation", "tokens", "seconds") if k in record}
        if "loss" in values or "validation" in values:
            points.append({"step": step, **values})
        if isinstance(record.get("sample"), str):
            samples.append([step, record["sample"]])
    return points, samples


def number(value: float | None) -> float | None:
    """Five significant digits; None where there is no finite number."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{float(value):.5g}")


def digest(text: str) -> str:
    """The name a content security policy knows an inline script or style by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
