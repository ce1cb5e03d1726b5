"""The report: one self-contained page that shows what a model makes of a text, and how it was trained.

The page needs no network and runs no code but its own: a policy in its head names the digest of its one
script. What the model or the text says reaches the page as data and is only ever shown as text.

N reading of the lens   L position   E the likeliest tokens, or parts switched off
"""

import base64
import hashlib
import html
import json
import math
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import cutaway
from cutaway import spec, store
from cutaway.errors import LimitError
from cutaway.nn.heads import fine
from cutaway.study.effects import switch_off
from cutaway.study.figures import in_words, unit_of
from cutaway.study.history import History, read_history, rounded
from cutaway.study.legend import LETTERS, describe
from cutaway.study.lens import lens, own_reading
from cutaway.study.packing import pack
from cutaway.study.patterns import Attention, attentions
from cutaway.study.specimen import Session, Specimen, read, shapes

MOST_POINTS = 4000
SCRIPTS = ("page", "drawing", "tokens", "training", "text", "attention", "lens", "effects", "shapes", "start")


def write_report(
    session: Session, text: str | tuple[str, str], path: Path | str, *, run: Path | str | None = None
) -> None:
    """Write the page about `text` to the file `path`.

    An encoder-decoder reads a pair of source and target; of a source alone the target is what it writes.

    Shown are at most the first 512 tokens, and no more than the length the model was trained with; the page
    says so. With `run`, it also shows the training, from RUN/metrics.jsonl and RUN/facts.json.
    Raises ConfigError for a model that reads no tokens, and where text or pair does not fit the model;
    LimitError for a text of fewer than two tokens.
    """
    page = Page(session, read(session, text))
    if run is not None:
        page.add_history(read_history(Path(run)))
    page.add_classes(session.labels)
    page.add_lens()
    page.add_attention()
    page.add_effects()
    page.add_shapes()
    store.write_file(Path(path), page.render().encode("utf-8"))


class Page:
    """What is known so far: `content` becomes JSON, `blobs` are numbers packed beside it."""

    def __init__(self, session: Session, found: tuple[Specimen, list[str]]):
        self.specimen, notices = found
        self.tokenizer = session.tokenizer
        self.vocab = session.model.vocab_matrix.size(0) if self.specimen.speaks else session.tokenizer.vocab
        self.blobs: dict[str, str] = {}
        self.words: set[int] = set()
        self.name = Path(session.path).resolve().name if session.path else "a model in memory"
        streams = {"text": self.specimen.ids}
        if self.specimen.source is not None:
            streams["source"] = self.specimen.source
        for ids in streams.values():
            self.words.update(ids.tolist())
        self.content: dict[str, Any] = {
            "name": self.name,
            "notices": notices,
            "step": session.step,
            "facts": self._facts(session),
            "size": self._size(),
            "streams": {name: ids.tolist() for name, ids in streams.items()},
            "predicts": self.specimen.predicts,
        }

    def add_history(self, history: History) -> None:
        """Loss curves and samples of the run, and where it was made."""
        points = history.points
        stride = max(1, math.ceil(len(points) / MOST_POINTS))
        judged = {"validation_sample", "validation"}
        kept = [p for i, p in enumerate(points) if i % stride == 0 or judged & p.keys() or p is points[-1]]
        self.content["training"] = {
            "points": kept,
            "stride": stride,
            "samples": history.samples,
            "judged": in_words(history.judged, unit_of(self.specimen.model)),
            "unit": unit_of(self.specimen.model),
        }
        trained_on = "gpu" if history.facts.get("device") == "cuda" else "processor"
        for name in ("seed", "precision", "commit", trained_on):
            if history.facts.get(name) is not None:
                label = "trained on" if name == trained_on else name
                self.content["facts"].append([label, str(history.facts[name])])

    def add_classes(self, labels: tuple[str, ...]) -> None:
        """The chances of the classes that the model sorts into, the likeliest first."""
        if isinstance(self.specimen.model.plan.head, spec.Classify):
            with torch.no_grad():
                logits_C = self.specimen.model(torch.from_numpy(self.specimen.ids)[None])[0]
            names = labels or tuple(f"class {number}" for number in range(len(logits_C)))
            chances = sorted(zip(fine(logits_C).softmax(-1).tolist(), names, strict=True), reverse=True)
            self.content["classes"] = [[name, rounded(chance)] for chance, name in chances]

    def add_lens(self) -> None:
        """The model's prediction at every position, and where it has blocks what it would be after each."""
        if not self.specimen.speaks:
            return
        found = (lens if self.specimen.stacks else own_reading)(self.specimen.model, self.specimen.inputs)
        tokens_NLE, chances_NLE = found.tokens_NBLE[:, 0], found.chances_NBLE[:, 0]
        said = [self._options(*row) for row in zip(tokens_NLE[-1], chances_NLE[-1], strict=True)]
        text: dict[str, Any] = {"options": said, "losses": None}
        self.content["text"] = text
        if self.specimen.stacks:
            self.content["lens"] = {
                "rows": found.names,
                "options": self._blob("lens-options", tokens_NLE, "int32"),
                "probabilities": self._blob("lens-probabilities", chances_NLE, "float32"),
            }
        self.words.update(tokens_NLE.unique().tolist())
        if self.specimen.predicts:
            nats = found.surprise[:, 0]
            text["losses"] = [None, *(rounded(one) for one in nats[-1].tolist())]
            if self.specimen.stacks:
                self.content["lens"]["losses"] = self._blob("lens-losses", nats, "float32")

    def add_attention(self) -> None:
        """Every head's pattern."""
        self.content["attention"] = [
            self._attention(place, found) for place, found in enumerate(attentions(self.specimen))
        ]

    def add_effects(self) -> None:
        """What switching off each part does."""
        if not self.specimen.predicts or not self.specimen.stacks:
            return
        found = switch_off(self.specimen.model, self.specimen.inputs)
        after = zip(found.parts, found.loss_after, found.tokens_after, found.chances_after, strict=True)
        parts = [
            {
                "tap": part.name,
                "kind": part.kind,
                "stack": part.side,
                "layer": part.depth,
                "head": part.head,
                "loss": rounded(float(loss)),
                "next": self._options(tokens, chances),
            }
            for part, loss, tokens, chances in after
        ]
        losses = self._blob("effect-losses", found.surprise_after_EL, "float32")
        self.content["effects"] = {"parts": parts, "losses": losses, "before": rounded(found.loss_before)}

    def add_shapes(self) -> None:
        """The shape at every tap."""
        width = self.specimen.model.plan.width
        self.content["letters"] = LETTERS
        self.content["shapes"] = [
            [name, list(shape), *describe(name, shape, width)]
            for name, shape in shapes(self.specimen).items()
        ]

    def render(self) -> str:
        """The page, whole."""
        files = resources.files("cutaway.study") / "page"
        style = (files / "report.css").read_text("utf-8")
        script = '"use strict";\n' + "\n".join((files / f"{n}.js").read_text("utf-8") for n in SCRIPTS)
        policy = (
            f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'; "
            "img-src blob: data:; base-uri 'none'; form-action 'none'"
        )
        content = self.content | {"vocabulary": {str(i): self._label(i) for i in sorted(self.words)}}
        # In a script element only "<" could end it or open a comment; JSON can spell it otherwise.
        data = json.dumps(content, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
        blobs = "\n".join(
            f'<script type="application/octet-stream" id="{name}">{text}</script>'
            for name, text in self.blobs.items()
        )
        title = html.escape(f"Inside {self.name}")
        parts = {"title": title, "policy": policy, "style": style}
        parts |= {"script": script, "blobs": blobs, "data": data}
        head, *rest = (files / "report.html").read_text("utf-8").split("{{")
        return head + "".join(parts[name] + tail for name, tail in (piece.split("}}", 1) for piece in rest))

    def _facts(self, session: Session) -> list[list[str]]:
        parameters = list(self.specimen.model.parameters())
        stacks = self.specimen.stacks.values()
        mixers = [m for stack in stacks for block in stack.blocks for m in (block.mixer, block.cross)]
        heads = sorted({m.heads for m in mixers if isinstance(m, spec.Attention)})
        kinds = sorted({str(p.dtype).removeprefix("torch.") for p in parameters})
        threads = torch.get_num_threads()
        return [
            ["model", str(session.path) if session.path else "not saved"],
            *([] if session.step is None else [["step", f"{session.step:,}"]]),
            ["parameters", f"{sum(p.numel() for p in parameters):,}"],
            ["layers", " + ".join(map(str, self.specimen.layers))],
            ["heads", ", ".join(map(str, heads)) or "none"],
            ["width", f"{self.specimen.model.plan.width:,}"],
            ["vocabulary", f"{self.vocab:,} tokens"],
            ["numbers", ", ".join(kinds)],
            ["read on", f"{parameters[0].device}, {threads} thread{'s' * (threads > 1)}"],
            ["versions", f"Cutaway {cutaway.__version__}, PyTorch {torch.__version__}"],
        ]

    def _size(self) -> dict[str, Any]:
        return {
            "vocab": self.vocab,
            "bytes": len(self.tokenizer.decode_bytes(self.specimen.ids[1:])),
            "dtype": str(next(self.specimen.model.parameters()).dtype).removeprefix("torch."),
        }

    def _attention(self, place: int, found: Attention) -> dict[str, Any]:
        with_heads = [depth for depth, count in enumerate(found.heads) if count]
        for depth, text in zip(with_heads, found.packed.layers, strict=True):
            self.blobs[f"pattern-{place}-{depth}"] = text
        return {
            "title": found.title,
            "tap": found.tap,
            "queries": found.queries,
            "memory": found.memory,
            "heads": found.heads,
            "steps": found.packed.steps,
            "causal": found.packed.causal,
        }

    def _options(self, tokens: Tensor, chances: Tensor) -> list[list[Any]]:
        ids = tokens.tolist()
        self.words.update(ids)
        return [[i, rounded(chance)] for i, chance in zip(ids, chances.tolist(), strict=True)]

    def _blob(self, name: str, values: Tensor, kind: str) -> dict[str, Any]:
        self.blobs[name] = pack(values.cpu().numpy().astype(kind))
        return {"blob": name, "type": kind, "shape": list(values.shape)}

    def _label(self, token: int) -> list[str]:
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


def digest(text: str) -> str:
    """The name a content security policy knows an inline script or style by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
