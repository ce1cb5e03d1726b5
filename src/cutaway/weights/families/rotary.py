"""How a config.json says a rotation: rope_theta and rope_scaling; since transformers 5, rope_parameters."""

from typing import Any

from cutaway import spec
from cutaway.store import told
from cutaway.weights.config import MOST_TOKENS, Table

THETA = 10_000.0
NAMES = "default, linear, llama3"


def read_rotary(table: Table) -> spec.Rotary:
    """The rotation of a config; FileFormatError, by name, for a stretch that is not built."""
    old, new = table.take("rope_scaling", None), table.take("rope_parameters", None)
    theta = table.number("rope_theta", THETA) if table.values.get("rope_theta") is not None else THETA
    table.taken.add("rope_theta")
    if old and new and old != new:
        raise table.refuse("rope_scaling", f"{told(old)}, but rope_parameters says {told(new)}")
    said = old or new or {}
    key = "rope_scaling" if old else "rope_parameters"
    if not isinstance(said, dict):
        raise table.refuse(key, f"{told(said)} must be a table")
    inner = Table(said, table.path, key)
    word = inner.take("rope_type", "default", also="type")
    theta = inner.number("rope_theta", theta)
    inner.only("partial_rotary_factor", 1, 1.0)
    match word:
        case "default":
            stretch = None
        case "linear":
            stretch = spec.Interpolated(inner.number("factor"))
        case "llama3":
            stretch = spec.ByParts(
                inner.number("factor"),
                inner.number("low_freq_factor"),
                inner.number("high_freq_factor"),
                inner.count("original_max_position_embeddings", most=MOST_TOKENS),
            )
        case _:
            raise inner.refuse("rope_type", f"{told(word)} is not built; Cutaway has {NAMES}")
    if left := sorted(set(said) - inner.taken):
        raise table.refuse(key, f"{', '.join(map(str, left))} not understood for rope_type {told(word)}")
    if theta <= 0:
        raise table.refuse("rope_theta", f"{theta} must be more than 0")
    return spec.Rotary(theta, scaling=stretch)


def write_rotary(rotary: spec.Rotary, length: int) -> dict[str, Any]:
    """A rotation in both spellings, so that old and new versions of transformers read it."""
    match rotary.scaling:
        case spec.Interpolated(factor=factor):
            said: dict[str, Any] = {"rope_type": "linear", "factor": factor}
        case spec.ByParts(factor=factor, low=low, high=high, length=trained):
            said = {"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high}
            said["original_max_position_embeddings"] = trained
        case _:
            said = {"rope_type": "default"}
    said["rope_theta"] = rotary.theta
    stretched = rotary.scaling is not None
    return {"rope_theta": rotary.theta, "rope_parameters": said} | (
        {"rope_scaling": said} if stretched else {}
    )
