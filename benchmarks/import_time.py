"""How long a fresh process takes to import us, us with torch, or to answer `--help`; beside transformers.

Wall time of the whole process, interpreter start included (that alone is the first note), files in the page
cache.
"""

import subprocess
import time
from pathlib import Path
from statistics import median

from benchmarks.figure import Figure, spread
from benchmarks.process import OURS, PEERS, ROOT
from benchmarks.session import Session

ASKED = 0.4  # seconds, for `cutaway --help`


def run(session: Session) -> list[Figure]:
    tasks: dict[str, list[str]] = {
        "python -c pass": [str(OURS), "-c", "pass"],
        "import cutaway": [str(OURS), "-c", "import cutaway"],
        "import cutaway.models": [str(OURS), "-c", "import cutaway.models"],
        "cutaway --help": [str(OURS), "-m", "cutaway", "--help"],
    }
    if session.has_peers():
        tasks["import transformers"] = [str(PEERS), "-c", "import transformers"]
        tasks["import GPT2LMHeadModel"] = [str(PEERS), "-c", "from transformers import GPT2LMHeadModel"]
        script = Path(PEERS).with_name("transformers")
        if script.exists():
            tasks["transformers --help"] = [str(script), "--help"]
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    failed: set[str] = set()
    for number in range(1 + 3 * session.rounds):  # the first round fills the page cache
        for name, command in tasks.items():
            start = time.perf_counter()
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if number:
                seconds[name].append(time.perf_counter() - start)
            if ended.returncode and name not in failed:
                failed.add(name)
                session.note(f"left out: {name} ended with {ended.returncode}: {ended.stderr.strip()[-300:]}")
    for name in ("python -c pass", "cutaway --help"):
        if name not in failed:
            session.note(f"{name}: {median(seconds[name]):.3f} s (aim for --help: under {ASKED} s)")
    pairs = (
        ("import_time.import", "import cutaway", "import transformers"),
        ("import_time.model", "import cutaway.models", "import GPT2LMHeadModel"),
        ("import_time.help", "cutaway --help", "transformers --help"),
    )
    return [
        Figure(
            name=name,
            ours=median(seconds[ours]),
            peer=median(seconds[peer]),
            unit="s",
            better="less",
            repeats=len(seconds[ours]),
            peer_name=f"{ours} against {peer}",
            spread=max(spread(seconds[ours]), spread(seconds[peer])),
        )
        for name, ours, peer in pairs
        if peer in tasks and not failed & {ours, peer}
    ]
