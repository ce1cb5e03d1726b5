"""Looking into a model and changing it: names, traces, edits, the logit lens, what each part is good for."""

from cutaway.study.edit import ablate, add, edit, replace, scale, skip
from cutaway.study.effects import Effects, Part, switch_off
from cutaway.study.lens import Lens, lens, unembed
from cutaway.study.names import aliases, find
from cutaway.study.trace import Trace, trace

__all__ = [
    "Effects",
    "Lens",
    "Part",
    "Trace",
    "ablate",
    "add",
    "aliases",
    "edit",
    "find",
    "lens",
    "replace",
    "scale",
    "skip",
    "switch_off",
    "trace",
    "unembed",
]
