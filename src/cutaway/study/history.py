"""How a run went, from its folder: the points of its curves, its samples, its facts."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from cutaway import store
from cutaway.errors import FileFormatError

FIGURES = (
    *("loss", "validation_sample", "bleu_sample", "accuracy_sample", "validation"),
    *("tokens", "seconds"),
)


class History(NamedTuple):
    """`points` are the steps that have a loss of some kind, one each, `samples` pairs of step and text,
    `judged` the figures of the last evaluation on all that was put aside.
    """

    points: list[dict[str, float | None]]
    samples: list[tuple[int, str]]
    facts: dict[str, Any]
    judged: dict[str, float]


def read_history(run: Path) -> History:
    """Read metrics.jsonl and facts.json of a run; what is not there is empty.

    Raises FileFormatError where a line is not a JSON object with a step, or the facts are no JSON object.
    """
    points: dict[int, dict[str, float | None]] = {}
    samples, judged = [], {}
    for place, line in enumerate(store.read_lines(run / "metrics.jsonl"), 1):
        try:
            record = json.loads(line)
            step = int(record["step"])
        except (ValueError, TypeError, KeyError):
            rule = f"line {place} is not a JSON object with a step"
            raise FileFormatError(run / "metrics.jsonl", rule) from None
        values = {name: rounded(record[name]) for name in FIGURES if finite(record.get(name))}
        if {"loss", "validation_sample", "validation"} & values.keys():
            points.setdefault(step, {"step": step}).update(values)
        if isinstance(record.get("sample"), str):
            samples.append((step, record["sample"]))
        if "validation" in record:
            judged = {name: float(value) for name, value in record.items() if finite(value)}
            del judged["step"]
    return History(list(points.values()), samples, read_facts(run / "facts.json"), judged)


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a run, none where the file is not there."""
    try:
        facts = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise FileFormatError(path, "not a JSON object")
    return facts


def finite(value: object) -> bool:
    """Whether it is a number one can draw."""
    return isinstance(value, int | float) and math.isfinite(value)


def rounded(value: float) -> float | None:
    """Six significant digits; None where there is no finite number."""
    return float(f"{float(value):.6g}") if math.isfinite(value) else None
