"""What a benchmark is asked to do, which peers are there, and what it says about those that are not."""

import ctypes.util
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rich.console import Console

from benchmarks.process import OURS, PEERS, Child, ChildError, Plan
from benchmarks.shape import GPT2, TINY, Shape
from cutaway.data.download import local_sources
from cutaway.errors import CutawayError
from cutaway.train.measure import peak_flops

progress = Console(stderr=True)


@dataclass
class Session:
    """The options of one run, and the notes it collects for the reader."""

    rounds: int = 5
    threads: int = 2
    tiny: bool = False
    text: Path | None = None
    seeds: tuple[int, ...] = (1, 2, 3)
    model: Path | None = None
    asked: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def shape(self) -> Shape:
        return TINY if self.tiny else GPT2

    def note(self, text: str) -> None:
        self.notes.append(text)
        progress.print(text, markup=False, highlight=False)

    def start(self, plan: Plan, warm_up: int) -> Child | None:
        """The child after `warm_up` calls that do not count, or None with a note why it cannot run."""
        progress.print(f"starting {plan.name}", markup=False, highlight=False)
        try:
            child = Child(plan, self.threads)
        except ChildError as failure:
            self.note(f"left out: {failure}")
            return None
        try:
            child.call(warm_up)
        except ChildError as failure:
            child.close()
            self.note(f"left out: {failure}")
            return None
        return child

    @contextmanager
    def running(self, plans: Iterable[Plan], warm_up: int) -> Iterator[dict[str, Child]]:
        """The children that can run, by the names of their plans; all are ended at the end."""
        with ExitStack() as stack:
            children = {}
            for plan in plans:
                child = self.start(plan, warm_up)
                if child is not None:
                    children[plan.name] = stack.enter_context(child)
            yield children

    def ours(self, name: str, job: str, **arguments: object) -> Plan:
        return Plan(f"cutaway, {name}", "ours", job, arguments, OURS)

    def peer(self, name: str, module: str, job: str, **arguments: object) -> Plan:
        return Plan(name, f"peers.{module}", job, arguments, PEERS)

    def has_peers(self) -> bool:
        if not PEERS.exists():
            self.note("every peer from the package index is left out: run `make peers` first")
        return PEERS.exists()

    def has_nanogpt(self) -> bool:
        """True where NANOGPT names a checkout and the peers' environment exists to run it in."""
        folder = os.environ.get("NANOGPT")
        if not folder:
            self.note("nanoGPT is left out: set NANOGPT to the folder of a checkout")
            return False
        if not (Path(folder) / "model.py").exists():
            self.note(f"nanoGPT is left out: NANOGPT={folder} has no model.py")
            return False
        return self.has_peers()

    def tinyshakespeare(self) -> Path | None:
        """The text that was named, or the copy the recipe reads; None with a note where there is neither."""
        try:
            path = self.text or Path(*local_sources(["tinyshakespeare:"]))
        except CutawayError as problem:
            self.note(f"left out: {str(problem).replace('--data', '--text')}")
            return None
        if not path.exists():
            self.note(f"left out: {path} is not there; name the text with --text")
            return None
        return path.resolve()

    @cached_property
    def precisions(self) -> tuple[str, ...]:
        """Those asked for. If none are, fp32, and bf16 where this processor has kernels for it: emulated, a
        step takes minutes.
        """
        if self.asked:
            return self.asked
        if peak_flops("bf16") > peak_flops("fp32"):
            return ("fp32", "bf16")
        share = peak_flops("bf16") / peak_flops("fp32")
        self.note(f"bf16 is left out: this processor's products in bf16 have {share:.2f} times fp32's rate")
        return ("fp32",)

    def better_allocator(self) -> dict[str, str] | None:
        """The environment that preloads tcmalloc, or None with a note that it is not installed."""
        for name in ("tcmalloc_minimal", "tcmalloc"):
            library = ctypes.util.find_library(name)
            if library:
                return {"LD_PRELOAD": library}
        self.note("tcmalloc is left out: it is not installed (Debian: libtcmalloc-minimal4)")
        return None

    def note_load(self) -> None:
        """Others on the same cores make every figure worthless, OpenMP's spinning most of all."""
        load = os.getloadavg()[0]
        if load > 0.5:
            self.note(f"load average {load:.1f} before the start: other processes share the cores")
