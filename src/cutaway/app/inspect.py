"""`cutaway inspect FILE`: the tensors, dtypes, shapes and metadata of weights, which are not loaded."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from cutaway.app.options import Flag, option, parse

if TYPE_CHECKING:
    from cutaway.weights.inspect import Description, Total

MOST_SHOWN = 100  # characters of a value of the metadata
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Options:
    """Show the tensors, dtypes, shapes and metadata of weights, without loading them."""

    file: Annotated[
        tyro.conf.Positional[Path],
        option(help="safetensors, an index of shards, GGUF, llama2.c, a Hugging Face folder, or a run"),
    ]
    json: Annotated[Flag, option(help="one JSON object, with all of the metadata")] = False


def run(arguments: list[str]) -> int:
    """Prints what the file holds: tables on a terminal, elsewhere a line a tensor with tabs between."""
    options = parse(Options, arguments, "cutaway inspect")
    from cutaway.weights.inspect import inspect

    found = inspect(options.file)
    if options.json:
        print(json.dumps(found.table()))
        return 0
    print("\n".join(head(found)))
    if sys.stdout.isatty():
        print_grid(found)
    else:
        print("\n".join("\t".join(row) for row in rows(found)))
    return 0


def head(found: "Description") -> list[str]:
    """The summary in lines for people: what it is, how much, the metadata, what is not known."""
    lines = [f"{shown(found.path)}: {found.format}", counted(found.total)]
    lines += [f"  {name:8} {counted(part)}" for name, part in found.dtypes.items()]
    if found.metadata:
        lines.append("metadata")
    lines += [f"  {shown(key)} = {shown(value)}" for key, value in found.metadata.items()]
    lines += [f"note: {shown(note, 400)}" for note in found.notes]
    return lines


def counted(part: "Total") -> str:
    """How many tensors, numbers and bytes."""
    tensors = f"{part.tensors:,} tensor{'' if part.tensors == 1 else 's'}"
    return f"{tensors}, {part.elements:,} numbers, {size(part.bytes)}"


def rows(found: "Description") -> list[tuple[str, ...]]:
    """A row a tensor: name, dtype, shape, bytes, and the file where there are several."""
    several = len({entry.file for entry in found.tensors}) > 1
    return [
        (
            shown(entry.name),
            entry.dtype,
            " × ".join(map(str, entry.shape)) or "one number",
            str(entry.bytes),
            *([shown(entry.file)] if several else []),
        )
        for entry in found.tensors
    ]


def print_grid(found: "Description") -> None:
    """The tensors as a table of a terminal's width."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=None, pad_edge=False)
    lines = rows(found)
    names = ("tensor", "dtype", "shape", "bytes", "file")
    for name in names[: len(lines[0]) if lines else len(names)]:
        grid.add_column(name, justify="right" if name == "bytes" else "left", overflow="fold")
    for line in lines:
        grid.add_row(*line)
    Console(highlight=False, markup=False, emoji=False).print(grid)


def shown(value: Any, most: int = MOST_SHOWN) -> str:
    """A value on one line, cut where it is long; what could steer a terminal is spelled out."""
    if isinstance(value, dict) and value.keys() == {"length", "first"}:
        first = ", ".join(shown(item, 24) for item in value["first"])
        return shown(
            f"{value['length']:,} values: {first}{', ...' if value['length'] > len(value['first']) else ''}",
            most,
        )
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[: most + 1])
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def size(count: float) -> str:
    """A number of bytes in the unit that leaves fewest digits."""
    for unit in UNITS[:-1]:
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {UNITS[-1]}"
