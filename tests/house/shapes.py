"""The shape watcher: looks at the locals of every returning package function (design, section 3).

A tensor named noun_AXES has one axis per letter, every letter is in the legend, and a letter has one size
within a frame. A 1 among the letters is an axis of size one, kept for broadcasting: mask_B11M.
"""

import re
import sys
from collections.abc import Iterator
from opcode import opmap
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, Self

import cutaway

PACKAGE = Path(cutaway.__file__).parent
LEGEND = frozenset("BLMDHGKFVNCPTE")
# At least one letter: beta_1 is a number, not a tensor with an axis of size one.
_AXES = re.compile(r"^[a-z]\w*_(?=1*[A-Z])(?P<axes>[A-Z1]+)$")
_LEAVING = frozenset(opmap[n] for n in ("RETURN_VALUE", "RETURN_CONST", "YIELD_VALUE") if n in opmap)


def axes_in(name: str) -> str | None:
    """The axes a name tells of, or None where it tells of none."""
    found = _AXES.match(name)
    return found["axes"] if found else None


class ShapeWatch:
    """While entered, collects in `problems` what the names of tensors under `folder` say wrongly.

    It collects and does not raise: an exception raised here could be caught by the code under test.
    """

    def __init__(self, folder: Path = PACKAGE):
        self.problems: list[str] = []
        self.folder = f"{folder}/"
        # By id, because a code object's hash reads its bytecode; the object is kept so that the id stays its.
        self._known: dict[int, tuple[CodeType, tuple[tuple[str, str], ...]]] = {}

    def __enter__(self) -> Self:
        self._before = sys.getprofile()
        sys.setprofile(self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.setprofile(self._before)

    def _look(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "return":
            return
        code = frame.f_code
        known = self._known.get(id(code))
        if known is None:
            known = self._known[id(code)] = (code, self._names(code))
        # A frame that an exception unwinds also "returns": its tensors may be the very mistake it refused.
        if known[1] and code.co_code[frame.f_lasti] in _LEAVING:
            for problem in disagreements(known[1], frame.f_locals):
                line = f"{code.co_filename}:{frame.f_lineno} {code.co_qualname}: {problem}"
                if line not in self.problems:
                    self.problems.append(line)

    def _names(self, code: CodeType) -> tuple[tuple[str, str], ...]:
        if not code.co_filename.startswith(self.folder):
            return ()
        names = code.co_varnames + code.co_cellvars + code.co_freevars
        return tuple((name, axes) for name in names if (axes := axes_in(name)))


def disagreements(named: tuple[tuple[str, str], ...], values: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the tensors among `values`, given each name and its axes."""
    torch = sys.modules.get("torch")
    kind = getattr(torch, "Tensor", None)
    if kind is None:
        return
    sizes: dict[str, tuple[int, str]] = {"1": (1, "broadcasting")}
    for name, axes in named:
        value = values.get(name)
        if not isinstance(value, kind):
            continue
        shape = tuple(value.shape)
        if unknown := set(axes) - LEGEND - {"1"}:
            yield f"{name}: {', '.join(sorted(unknown))} not in the legend"
        elif len(shape) != len(axes):
            yield f"{name} has shape {shape}"
        else:
            for letter, size in zip(axes, shape, strict=True):
                expected, owner = sizes.setdefault(letter, (size, name))
                if size != expected:
                    yield f"{name} has shape {shape}, but {letter} is {expected} in {owner}"
