"""Reading: one forward pass, and the tensors at the taps one asked for.

The axes of each tensor are those of the module that taps it: (B, L, D) in the residual stream, (B, H, L, K)
for heads, (B, H, L, M) for scores and pattern.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from cutaway import spec
from cutaway.allocator import keep_large_buffers
from cutaway.errors import TapError, nearest
from cutaway.study.names import find
from cutaway.study.subject import Inputs, arguments, looking, many_graphs, subject
from cutaway.tap import Recorder, edits_of


class Trace(Mapping[str, Tensor]):
    """Tap name -> tensor, in the order the taps fired; TransformerLens' names find the same tensors."""

    def __init__(self, seen: Mapping[str, Tensor], plan: spec.Model):
        self._seen, self._plan = dict(seen), plan

    def __getitem__(self, name: str) -> Tensor:
        """The tensor at one tap. Raises TapError for a name that was not kept, or means several."""
        if name in self._seen:
            return self._seen[name]
        names = find(name, self._plan)
        if len(names) > 1:
            raise TapError(f"{name!r} means {len(names)} taps, the first {names[0]}: name one")
        if names[0] not in self._seen:
            raise TapError(f"tap {names[0]} was not kept: {nearest(names[0], self._seen)}")
        return self._seen[names[0]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen)

    def __len__(self) -> int:
        return len(self._seen)

    def __contains__(self, name: object) -> bool:
        return name in self._seen or (isinstance(name, str) and _found(name, self._seen, self._plan))

    def __repr__(self) -> str:
        return "\n".join(f"{name:40} {tuple(value.shape)}" for name, value in self._seen.items())


def trace(thing: Any, inputs: Inputs, keep: str | Sequence[str] = "**") -> Trace:
    """Run the model once over `inputs` and keep the tensors at the taps that `keep` names.

    `thing` is a model, a compiled model or a session; `inputs` text, token ids, or a list of either (padded
    on the right), and a pair of those for an encoder-decoder. Edits in force apply. Raises TapError for a
    name that no tap has.
    """
    keep_large_buffers()
    studied = subject(thing)
    patterns = [keep] if isinstance(keep, str) else keep
    names = {name for pattern in patterns for name in find(pattern, studied.plan)}
    positional, keyword = arguments(studied, inputs)
    recorder = Recorder(names, edits_of(studied.model))
    with looking(studied), many_graphs():
        studied.run(*positional, **keyword, tap=recorder)
    if silent := names - recorder.seen.keys():
        raise TapError(f"taps that never fired: {', '.join(sorted(silent))}")
    ordered = [name for name in find("**", studied.plan) if name in names]
    return Trace({name: recorder.seen[name].detach() for name in ordered}, studied.plan)


def _found(name: str, seen: Mapping[str, Tensor], plan: spec.Model) -> bool:
    try:
        return find(name, plan)[0] in seen
    except TapError:
        return False
