"""`cutaway study ...`: each subcommand is one line of Python with `cutaway.study`, which its help shows."""

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from cutaway.app.options import Flag, option, parse
from cutaway.errors import ConfigError, LimitError, nearest

if TYPE_CHECKING:
    from torch import Tensor

NEXT = 5  # likely next tokens that are shown


@dataclass(frozen=True, kw_only=True)
class Look:
    """What every subcommand takes."""

    text: tyro.conf.Positional[str]
    model: Annotated[str, option(aliases=["-m"], help="a run, or anything else `cutaway.load` takes")]
    target: Annotated[str | None, option(help="the target, for an encoder-decoder")] = None
    json: Annotated[Flag, option(help="JSON in place of lines")] = False

    def inputs(self, session: Any, text: str | None = None) -> Any:
        """What the model reads: the text, or for a pair the text and the tokens of the target, begun with the
        token that its decoder begins with.
        """
        text = self.text if text is None else text
        return text if self.target is None else (text, self.scored(session))

    def scored(self, session: Any) -> list[int]:
        """The tokens whose loss is told."""
        from cutaway.data.begin import begin_token, target_tokenizer
        from cutaway.study.subject import text_ids

        if self.target is None:
            return text_ids(session.spec, session.tokenizer, self.text).tolist()
        written = target_tokenizer(session.tokenizer).encode(self.target)
        return [begin_token(session.tokenizer), *written.tolist()]


@dataclass(frozen=True, kw_only=True)
class Trace(Look):
    """study.trace(model, text, keep): the tensors at the taps whose names match, in figures or as a file."""

    keep: Annotated[tuple[str, ...], option(help="names of taps; * and ** are wildcards")] = ("**",)
    out: Annotated[Path | None, option(help="write the tensors there, as .safetensors")] = None


@dataclass(frozen=True, kw_only=True)
class Ablate(Look):
    """study.edit(model, {at: study.ablate(heads, positions)}): zero or the mean in place of a value."""

    at: Annotated[str, option(help="name of a tap; * is a wildcard")]
    heads: Annotated[tuple[int, ...], option(help="only these (all)")] = ()
    positions: Annotated[tuple[int, ...], option(help="only these (all)")] = ()
    with_: Annotated[Literal["zero", "mean"], option(name="with", help="what is put there")] = "zero"


@dataclass(frozen=True, kw_only=True)
class Replace(Look):
    """study.edit(model, {at: study.replace(trace of another text)}): activation patching."""

    at: Annotated[str, option(help="name of one tap")]
    other: Annotated[str, option(help="the text whose value is taken, of as many tokens")]
    positions: Annotated[tuple[int, ...], option(help="only these (all)")] = ()


@dataclass(frozen=True, kw_only=True)
class Skip(Look):
    """study.edit(model, study.skip(at)): leave out a layer (blocks.3) or a sub-layer (blocks.3.attn)."""

    at: Annotated[str, option(help="a layer or a sub-layer")]


@dataclass(frozen=True, kw_only=True)
class Lens(Look):
    """study.lens(model, text): what the head would say after each layer."""

    best: Annotated[int, option(help="how many likely tokens")] = NEXT


@dataclass(frozen=True, kw_only=True)
class SwitchOff(Look):
    """study.switch_off(model, text): the loss with every head, sub-layer and layer off in turn."""

    best: Annotated[int, option(help="how many likely tokens")] = NEXT


def run(arguments: list[str]) -> int:
    """Runs the subcommand that the first argument names."""
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print("usage: cutaway study SUBCOMMAND -m RUN TEXT [options]\n")
        print("\n".join(f"  {name:{width}}  {record.__doc__}" for name, (record, _) in COMMANDS.items()))
        return 0 if arguments else ConfigError.exit_code
    name, *rest = arguments
    if name not in COMMANDS:
        raise ConfigError(f"study {name!r} unknown; {nearest(name, COMMANDS, most=1)}")
    record, act = COMMANDS[name]
    options = parse(record, rest, f"cutaway study {name}")
    from cutaway.models.pair import Pair
    from cutaway.session import load

    session = load(options.model)
    if isinstance(session.model, Pair) and options.target is None:
        raise LimitError(f"--target: {options.model} is an encoder-decoder; say what it should write")
    found, lines = act(session, options)
    print(json.dumps(found) if options.json else "\n".join(lines))
    return 0


def show_trace(session: Any, options: Trace) -> tuple[Any, list[str]]:
    from cutaway import study

    seen = study.trace(session, options.inputs(session), options.keep)
    if options.out is not None:
        save_tensors(dict(seen), options.out)
    found = [{"name": name, **figures(value)} for name, value in seen.items()]
    lines = [
        f"{f['name']:36} {'x'.join(map(str, f['shape'])):>16}  mean {f['mean']:+.4f}  "
        f"deviation {f['deviation']:.4f}  {f['least']:+.3f} .. {f['most']:+.3f}"
        for f in found
    ]
    return found, lines


def figures(value: "Tensor") -> dict[str, Any]:
    """A tensor in five figures; masked scores are minus infinity and do not count."""
    finite = value[value.isfinite()].double()
    if finite.numel() == 0:
        return {"shape": list(value.shape), "mean": 0.0, "deviation": 0.0, "least": 0.0, "most": 0.0}
    return {
        "shape": list(value.shape),
        "mean": finite.mean().item(),
        "deviation": finite.std(correction=0).item(),
        "least": finite.min().item(),
        "most": finite.max().item(),
    }


def save_tensors(seen: "dict[str, Tensor]", path: Path) -> None:
    """The tensors as a safetensors file."""
    from safetensors.torch import save

    from cutaway.store import write_file

    write_file(path, save({name: value.contiguous() for name, value in seen.items()}))


def show_ablate(session: Any, options: Ablate) -> tuple[Any, list[str]]:
    from cutaway import study

    made = study.ablate(options.heads or None, options.positions or None, options.with_)
    return compare(session, options, study.edit(session, {options.at: made}))


def show_replace(session: Any, options: Replace) -> tuple[Any, list[str]]:
    from cutaway import study

    value = study.trace(session, options.inputs(session, options.other), options.at)[options.at]
    if options.positions:
        last = value.size(-2) - 1
        if not 0 <= min(options.positions) <= max(options.positions) <= last:
            given = " ".join(map(str, options.positions))
            raise LimitError(f"--positions {given}: at {options.at} they count from 0 to {last}")
        value = value[..., list(options.positions), :]
    made = study.replace(value, options.positions or None)
    return compare(session, options, study.edit(session, {options.at: made}))


def show_skip(session: Any, options: Skip) -> tuple[Any, list[str]]:
    from cutaway import study

    return compare(session, options, study.edit(session, study.skip(options.at)))


def compare(session: Any, options: Look, changed: AbstractContextManager) -> tuple[Any, list[str]]:
    """The text's loss and the next token, before and after."""
    before = read_logits(session, options)
    with changed:
        after = read_logits(session, options)
    found = {"before": before, "after": after}
    lines = [
        f"{name:7} loss {number(one['loss']):>8} nats  next: {likely(one['next'])}"
        for name, one in found.items()
    ]
    return found, lines


def read_logits(session: Any, options: Look) -> dict[str, Any]:
    """The mean loss of the tokens that came, None where there is none to score, and the likely next ones."""
    import torch.nn.functional as F
    from torch import as_tensor

    from cutaway import study

    logits_LV = study.trace(session, options.inputs(session), "logits")["logits"][0].double()
    tokens_L = as_tensor(options.scored(session)).long()
    loss = None
    if len(tokens_L) > 1 and predicts_next(session.model):
        loss = F.cross_entropy(logits_LV[:-1], tokens_L[1:]).item()
    chances, best = logits_LV[-1].softmax(-1).topk(min(NEXT, logits_LV.size(-1)))
    named = [
        [session.tokenizer.token_name(int(token)), chance.item()]
        for token, chance in zip(best, chances, strict=True)
    ]
    return {"loss": loss, "next": named}


def predicts_next(model: Any) -> bool:
    """Whether a position is asked for the token after it: no, in a model that sees them all."""
    from cutaway.study.readout import ahead

    return bool(ahead(model))


def likely(options: list[list[Any]]) -> str:
    return "  ".join(f"{name!r} {chance:.0%}" for name, chance in options)


def show_lens(session: Any, options: Lens) -> tuple[Any, list[str]]:
    from cutaway import study

    seen = study.lens(session, options.inputs(session), options.best)
    found: list[dict[str, Any]] = []
    for place, name in enumerate(seen.names):
        best = zip(seen.tokens_NBLE[place, 0, -1], seen.chances_NBLE[place, 0, -1], strict=True)
        loss = seen.surprise[place].mean().item()
        found.append(
            {
                "name": name,
                "loss": None if math.isnan(loss) else loss,
                "next": [[session.tokenizer.token_name(int(token)), chance.item()] for token, chance in best],
            }
        )
    lines = [f"{one['name']:18} loss {number(one['loss']):>8}  next: {likely(one['next'])}" for one in found]
    return found, lines


def number(loss: float | None) -> str:
    return "–" if loss is None else f"{loss:.4f}"


def show_switch_off(session: Any, options: SwitchOff) -> tuple[Any, list[str]]:
    from cutaway import study

    seen = study.switch_off(session, options.inputs(session), options.best)
    before = seen.loss_before
    parts: list[dict[str, Any]] = []
    for part, loss in zip(seen.parts, seen.loss_after.tolist(), strict=True):
        head = "" if part.head is None else f" head {part.head}"
        parts.append({"part": f"{part.name}{head}", "kind": part.kind, "loss": loss, "change": loss - before})
    parts.sort(key=lambda part: -part["change"])
    lines = [f"with all parts: loss {before:.4f} nats"]
    lines += [f"{part['part']:32} loss {part['loss']:.4f}  {part['change']:+.4f}" for part in parts]
    return {"loss": before, "parts": parts}, lines


COMMANDS: dict[str, tuple[type, Callable[[Any, Any], tuple[Any, list[str]]]]] = {
    "trace": (Trace, show_trace),
    "ablate": (Ablate, show_ablate),
    "replace": (Replace, show_replace),
    "skip": (Skip, show_skip),
    "lens": (Lens, show_lens),
    "switch-off": (SwitchOff, show_switch_off),
}
