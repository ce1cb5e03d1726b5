"""One save, as a process of its own for fault injection: `save_once.py KIND FOLDER SEED`.

KIND folder writes the folder step-SEED; file replaces spec.json; line adds a line to metrics.jsonl. The
negative controls: `naive` writes over the folder step-1, `unsynced` is `folder` with fsync put out of order.
Prints the error of a refused save and ends with its exit code.
"""

import os
import random
import sys
from pathlib import Path

from cutaway import store
from cutaway.errors import SaveError
from cutaway.store import disk

NAMES = ("model.safetensors", "optimizer.safetensors", "state.json")
disk.RETRY_SECONDS = (0.0, 0.0, 0.0)


def contents(seed: int) -> dict[str, bytes]:
    """What a save of this seed holds, a few buffers long."""
    draw = random.Random(seed)
    return {name: draw.randbytes(20_000) for name in NAMES}


def fill(folder: Path, seed: int) -> None:
    for name, data in contents(seed).items():
        with open(folder / name, "wb") as file:  # buffered: an unbuffered write may be short without an error
            for start in range(0, len(data), 10_000):
                file.write(data[start : start + 10_000])


def main(kind: str, folder: Path, seed: int) -> int:
    try:
        match kind:
            case "folder":
                store.write_folder(folder / f"step-{seed}", lambda beside: fill(beside, seed), need=60_000)
            case "file":
                store.write_file(folder / "spec.json", contents(seed)["state.json"])
            case "line":
                store.append_line(folder / "metrics.jsonl", contents(seed)["state.json"].hex())
            case "naive":
                fill(folder / "step-1", seed)
            case "unsynced":
                os.fsync = lambda handle: None
                return main("folder", folder, seed)
        return 0
    except SaveError as problem:
        print(problem)
        return problem.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
