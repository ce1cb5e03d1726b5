"""A measured figure: ours beside a peer, as a row of a table and as one line of JSON."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal

from rich.console import Console
from rich.table import Table

from benchmarks.process import Child
from cutaway.train.facts import processor


@dataclass(frozen=True)
class Figure:
    """Medians of both sides; `better` says which way is good; a ratio above 1 means ours is better."""

    name: str
    ours: float
    peer: float
    unit: str
    better: Literal["more", "less"]
    repeats: int
    peer_name: str
    spread: float = 0.0  # (largest - smallest) / median, of the side where it is larger
    facts: dict = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.ours / self.peer if self.better == "more" else self.peer / self.ours

    def line(self) -> str:
        record = {
            "name": self.name,
            "ours": float(f"{self.ours:.5g}"),
            "peer": float(f"{self.peer:.5g}"),
            "unit": self.unit,
            "ratio": round(self.ratio, 4),
            "repeats": self.repeats,
            "spread": round(self.spread, 3),
            "peer_name": self.peer_name,
        }
        return json.dumps(record | {"machine": machine()} | self.facts)


def compare(
    name: str,
    ours: Child,
    peer: Child,
    unit: str,
    better: Literal["more", "less"],
    of_seconds: Callable[[float], float],
) -> Figure:
    """The figure that `of_seconds` makes of the median seconds a call of both children."""
    return Figure(
        name=name,
        ours=of_seconds(median(ours.seconds)),
        peer=of_seconds(median(peer.seconds)),
        unit=unit,
        better=better,
        repeats=len(ours.seconds),
        peer_name=f"{ours.plan.name} against {peer.plan.name}",
        spread=max(spread(ours.seconds), spread(peer.seconds)),
        facts={"ours_on": ours.surroundings, "peer_on": peer.surroundings},
    )


def spread(values: list[float]) -> float:
    return (max(values) - min(values)) / median(values)


def machine() -> str:
    """Processor, cores and memory of this machine, in a few words."""
    name, known = processor()
    flags = sorted(known & {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8"})
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{name}, {os.cpu_count()} cores, {' '.join(flags)}, {gigabytes:.0f} GB"


def show(figures: list[Figure], notes: list[str], destination: Path | None) -> None:
    """Prints the notes, the table and the JSON lines; appends the lines to `destination` too."""
    console = Console(width=None if Console().is_terminal else 160)
    table = Table(title=machine(), title_justify="left")
    for heading in ("figure", "ours", "peer", "unit", "ratio", "repeats", "spread", "measured"):
        numeric = heading in ("ours", "peer", "ratio", "repeats", "spread")
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=heading == "figure")
    for figure in figures:
        colour = "green" if figure.ratio >= 1 else "red"
        sides = (f"{figure.ours:.4g}", f"{figure.peer:.4g}", figure.unit, f"[{colour}]{figure.ratio:.2f}[/]")
        table.add_row(figure.name, *sides, str(figure.repeats), f"{figure.spread:.0%}", figure.peer_name)
    for note in notes:
        console.print(f"- {note}", markup=False, highlight=False)
    if figures:
        console.print(table)
    lines = [figure.line() for figure in figures]
    for line in lines:
        print(line)
    if destination is not None and lines:
        with destination.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
