"""What recipes promise and what they reached: `expected.json` beside `results/seed-K.json`, and both."""

import json
import math
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cutaway.errors import ConfigError, InputMissingError
from cutaway.spec.read import read_table
from cutaway.spec.recipes import shipped_recipes
from cutaway.spec.structure import structure
from cutaway.store import read_lines, write_file

FORMAT = 1
STUDENT_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # by degrees of freedom, from 1


@dataclass(frozen=True)
class Expected:
    """The figure a recipe is about. `measure` is its name among a run's figures, `published` what others
    reached (none: nobody has), `source` where that is said, `tolerance` how far a run elsewhere may be off.
    """

    measure: str
    unit: str
    better: Literal["less", "more"]
    published: float | None
    source: str
    tolerance: float
    seeds: tuple[int, ...]
    format: int = FORMAT


@dataclass(frozen=True)
class SeedResult:
    """What one training of a recipe reached: `seconds` and `tokens` of training alone; `curve` holds step,
    seconds of training and validation loss of every evaluation; `details` how figures were counted, by name,
    where a number alone does not say (older results have none).
    """

    recipe: str
    seed: int
    value: float
    figures: dict[str, float]
    seconds: float
    tokens: int
    parameters: int
    command: str
    commit: str | None
    facts: dict[str, str]
    curve: tuple[tuple[int, float, float], ...]
    details: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True)
class Row:
    """One line of the table: `ours` is the mean over the seeds, `spread` the largest less the smallest.

    `interval` is half the 95 % interval of the mean, by Student's t, where there are at least two seeds.
    """

    name: str
    published: float | None
    source: str
    ours: float | None
    seeds: int
    spread: float | None
    interval: float | None
    seconds: float | None
    command: str
    commit: str | None


def read_expected(folder: Path) -> Expected:
    """The promise of a recipe's folder."""
    return read_json(folder / "expected.json", Expected)


def read_results(folder: Path, results: Path | None = None) -> list[SeedResult]:
    """What the seeds of a recipe reached so far, by seed; `results` where they are kept outside its folder.

    Raises ConfigError where a file holds another's result.
    """
    found = []
    for path in (results or folder / "results").glob("seed-*.json"):
        result = read_json(path, SeedResult)
        if path.name != file_name(result.seed) or result.recipe != folder.name:
            raise ConfigError(f"{path}: holds the result of {result.recipe}, seed {result.seed}; rename it")
        found.append(result)
    return sorted(found, key=lambda result: result.seed)


def write_result(results: Path, result: SeedResult) -> Path:
    """Writes the result of a seed into a folder, over an older one of that seed."""
    path = results / file_name(result.seed)
    write_file(path, (json.dumps(asdict(result), indent=1) + "\n").encode())
    return path


def file_name(seed: int) -> str:
    return f"seed-{seed}.json"


def read_json(path: Path, record: type) -> Any:
    """A record from its JSON file, as strictly as a recipe."""
    if not path.is_file():
        raise InputMissingError(f"{path}: not there; every recipe has one")
    read = structure(read_table(path), record, str(path))
    if read.format != FORMAT:
        raise ConfigError(f"{path}: format: {read.format} unknown; this version of Cutaway reads {FORMAT}")
    return read


def recipe_folder(name: str) -> Path:
    """The folder of a recipe, by the name of a shipped one or by path."""
    return shipped_recipes().get(name) or Path(name)


def summarise(folder: Path, name: str = "") -> Row:
    """The line of one recipe, called by its folder where it has no other `name`."""
    name = name or folder.name
    expected, results = read_expected(folder), read_results(folder)
    values = [result.value for result in results]
    commits = dict.fromkeys(result.commit for result in results if result.commit)
    return Row(
        name=name,
        published=expected.published,
        source=expected.source,
        ours=sum(values) / len(values) if values else None,
        seeds=len(values),
        spread=max(values) - min(values) if len(values) > 1 else None,
        interval=interval(values),
        seconds=sum(result.seconds for result in results) / len(results) if results else None,
        command=f"cutaway recipes run {name} --seed K",
        commit=" ".join(commits) or None,
    )


def interval(values: list[float]) -> float | None:
    """Half the 95 % interval of the mean; none of fewer than two values."""
    freedom = len(values) - 1
    if freedom < 1:
        return None
    student = STUDENT_95[min(freedom, len(STUDENT_95)) - 1]
    return student * statistics.stdev(values) / math.sqrt(len(values))


@dataclass(frozen=True)
class Verdict:
    """Whether a new result agrees with those committed, and in words why."""

    agrees: bool
    said: str


def check_judgeable(expected: Expected, results: list[SeedResult]) -> None:
    """Raises ConfigError where there is nothing that a result could be held against."""
    if not results and expected.published is None:
        raise ConfigError("nothing is published and no seed committed: use `cutaway recipes run` first")


def judge(expected: Expected, results: list[SeedResult], value: float) -> Verdict:
    """A value agrees when it is no further from the committed mean than their spread or the tolerance.

    Where nothing is committed it agrees when it is no worse than what is published, within the tolerance.
    """
    check_judgeable(expected, results)
    unit = expected.unit
    if results:
        values = [result.value for result in results]
        mean, spread = sum(values) / len(values), max(values) - min(values)
        room = max(spread, expected.tolerance)
        agrees = abs(value - mean) <= room
        words = "agrees with" if agrees else "DIFFERS from"
        seeds = f"{len(values)} committed seed{'s' * (len(values) > 1)}"
        said = f"{value:.4f} {words} {mean:.4f} ± {room:.4f} {unit} of {seeds}"
    else:
        assert expected.published is not None
        worse = value - expected.published if expected.better == "less" else expected.published - value
        agrees = worse <= expected.tolerance
        words = "is no worse than" if agrees else "is WORSE than"
        said = f"{value:.4f} {words} the published {expected.published:g} {unit}; no seed is committed yet"
    if results and expected.published is not None:
        said += f" (published: {expected.published:g})"
    return Verdict(agrees, said)


def training_curve(out: Path) -> tuple[tuple[int, float, float], ...]:
    """Step, seconds of training and validation loss of every evaluation in a run's metrics."""
    seconds, curve = 0.0, []
    for line in map(json.loads, read_lines(out / "metrics.jsonl")):
        seconds = line.get("seconds", seconds)
        loss = line.get("validation", line.get("validation_sample"))
        if loss is not None:
            curve.append((line["step"], seconds, loss))
    return tuple(curve)
