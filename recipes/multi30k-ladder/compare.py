"""The rungs of one seed side by side: size, arithmetic, speed, loss, BLEU in two ways, chrF; and a paired
bootstrap of each two.

python compare.py RUNS SEED    (RUNS is the folder of the runs, runs/multi30k-ladder)
"""

import json
import re
import sys
import time
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path
from statistics import median

import torch

import cutaway as ca
from cutaway.app.results import SeedResult, read_results
from cutaway.data import bleu
from cutaway.data.download import with_local_data
from cutaway.data.parallel import Sentences, read_parallel
from cutaway.generate.translate import BEAM
from cutaway.session import Session
from cutaway.spec import Parallel
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import RECIPE
from cutaway.store import read_lines, write_file
from cutaway.train.choose import available_cores
from cutaway.train.flops import training_flops
from cutaway.train.records import METRICS

HERE = Path(__file__).parent
SEARCHES = {"greedy": 1, f"beam {BEAM}": BEAM}
LENGTH = 14  # tokens of a caption with its end, about: FLOPs are counted there
WARM = 64  # sentences translated before the clock starts
COLUMNS = {
    "rung": "{}",
    "parameters": "{:,}",
    "MFLOP a token": "{:.1f}",
    "trained tokens/s": "{:,.0f}",
    "loss a token": "{:.3f}",
    "greedy BLEU": "{:.2f}",
    "beam 5 BLEU": "{:.2f}",
    "greedy tokenised": "{:.2f}",
    "beam 5 tokenised": "{:.2f}",
    "beam 5 chrF": "{:.1f}",
    "greedy tokens/s": "{:,.0f}",
    "beam 5 tokens/s": "{:,.0f}",
}


def read_test(run: Path) -> Sentences:
    """The test part that a run was judged by."""
    data = with_local_data(read_recipe(run / RECIPE)).data
    assert isinstance(data, Parallel)
    return read_parallel(data, data.test)


def write_all(model: Session, sentences: Sequence[str], beam: int) -> tuple[list[str], float]:
    """The translations of all sentences, and how many tokens a second were written."""
    model.translations(sentences[:WARM], beam=beam)
    begin = time.perf_counter()
    found = model.translations(sentences, beam=beam)
    seconds = time.perf_counter() - begin
    return [each.text for each in found], sum(len(each.tokens) for each in found) / seconds


def words(sentence: str) -> str:
    """Lower-cased words and marks with spaces between, near to what the published figures counted in."""
    return " ".join(re.findall(r"\w+|[^\w\s]", sentence.lower()))


def trained_rate(run: Path) -> float:
    """Tokens a second of a run's median step: a mean would hold what a neighbour on the machine took."""
    lines = [json.loads(line) for line in read_lines(run / METRICS)]
    sums = [(0.0, 0.0), *((line["tokens"], line["seconds"]) for line in lines if "tokens" in line)]
    return median((tokens - before) / (now - then) for (before, then), (tokens, now) in pairwise(sums))


def describe(run: Path, model: Session, result: SeedResult, test: Sentences) -> tuple[dict, list[list[str]]]:
    """The row of a rung, and what it wrote by each search."""
    row: dict[str, object] = {
        "rung": result.recipe,
        "parameters": result.parameters,
        "MFLOP a token": training_flops(model.model, LENGTH) / 1e6,
        "trained tokens/s": trained_rate(run),
        "loss a token": result.figures["test"],
    }
    written = []
    for said, beam in SEARCHES.items():
        lines, row[f"{said} tokens/s"] = write_all(model, test.source, beam)
        score = bleu.detokenised(lines, test.target, lower=True)
        row[f"{said} BLEU"], row["signature"] = score.score, score.signature
        row[f"{said} tokenised"] = bleu.tokenised(
            [words(line) for line in lines], [words(line) for line in test.target]
        ).score
        row[f"{said} chrF"] = bleu.chrf(lines, test.target, lower=True).score
        written.append(lines)
    return row, written


def compare_rungs(runs: Path, seed: int) -> dict:
    """The rows of a seed's rungs, and the bootstrap of each rung against every one below."""
    torch.set_num_threads(available_cores())
    rungs = sorted(path.parent for path in HERE.glob(f"*/{RECIPE}"))
    rows, written, test = [], {}, None
    for rung in rungs:
        run = runs / f"{rung.name}-seed-{seed}"
        result = next((r for r in read_results(rung) if r.seed == seed), None)
        if result is None or not run.is_dir():
            continue
        test = test or read_test(run)
        row, written[rung.name] = describe(run, ca.load(run), result, test)
        rows.append(row)
    tests = []
    for low, high in combinations(written, 2):
        assert test is not None
        for place, said in enumerate(SEARCHES):
            found = bleu.compare(written[low][place], written[high][place], test.target, lower=True)
            tests.append(
                {
                    "search": said,
                    "below": low,
                    "above": high,
                    "difference": found.system.score - found.baseline.score,
                    "margins": (found.baseline.margin, found.system.margin),
                    "p": found.p_value,
                    "signature": found.signature,
                }
            )
    return {"seed": seed, "rows": rows, "bootstrap": tests}


def told(found: dict) -> str:
    """Both as tables in Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for row in found["rows"]:
        cells = (form.format(row[name]) for name, form in COLUMNS.items())
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| search | difference | BLEU | p |", "|---|---|---|---|"]
    for each in found["bootstrap"]:
        better = f"{each['above']} - {each['below']}"
        lines.append(f"| {each['search']} | {better} | {each['difference']:+.2f} | {each['p']:.3f} |")
    return "\n".join([*lines, "", found["rows"][0]["signature"]])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: compare.py RUNS SEED")
    found = compare_rungs(Path(sys.argv[1]), int(sys.argv[2]))
    if not found["rows"]:
        sys.exit(
            f"no rung of seed {sys.argv[2]} in {sys.argv[1]}: first `recipes run multi30k-ladder --seed K`"
        )
    out = HERE / "results" / f"compare-seed-{found['seed']}.json"
    write_file(out, (json.dumps(found, indent=1) + "\n").encode())
    print(told(found), out, sep="\n\n")
