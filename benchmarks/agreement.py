"""`python -m benchmarks.agreement`: what real models say here and in their own programs; 1 if not alike.

--smollm2 FILE.gguf: llama.cpp writes 64 greedy tokens behind each of 20 prompts. At every place our choice
behind the same tokens is held against its own. llama.cpp rounds activations to 8 bits in front of quantised
weights, so its logits move: how far is measured by llama.cpp itself on the same weights written out in fp32,
whose logits have to be ours, and by the places at which both choose alike. Where they choose differently, the
gap between the two tokens has to lie within that; every such place is printed.

--minilm FOLDER: the vectors of 200 sentences beside those of sentence-transformers.
"""

import argparse
import json
import re
import sys
import tempfile
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from pydoc_data.topics import topics

import gguf
import numpy as np

from benchmarks.__main__ import there
from benchmarks.process import OURS, PEERS, Child, Plan

PROMPTS, NEW, SENTENCES = 20, 64, 200
WORDS = 12  # of a prompt
SAME_LOGITS = 1e-3  # two programs in fp32, on logits of about 20
SAME_VECTORS = 1e-5


def prose() -> list[str]:
    """Sentences of the standard library's documentation, of 20 to 400 characters."""
    text = " ".join(" ".join(topics.values()).split())
    found = re.split(r"(?<=[.!?])\s+", text)
    return [one for one in dict.fromkeys(found) if 20 <= len(one) <= 400]


def prompts(count: int) -> list[str]:
    """The beginnings of sentences that lie far apart."""
    long = [one.split() for one in prose() if len(one.split()) > WORDS]
    return [" ".join(words[:WORDS]) for words in long[:: len(long) // count][:count]]


@dataclass(frozen=True)
class Difference:
    """A place where the two programs choose differently, and by how little each does."""

    place: int
    ours: int
    theirs: int
    our_gap: float
    their_gap: float
    full_gap: float  # llama.cpp's in fp32, of our token over theirs: below 0 it takes theirs there too


@dataclass
class Compared:
    """What was found at all places."""

    places: int = 0
    differences: list[Difference] = field(default_factory=list)
    logits: float = 0.0  # the largest difference between ours and those of llama.cpp in fp32
    rounding: float = 0.0  # how far a gap between two best tokens moves, at most, where both choose alike
    own_rounding: float = 0.0  # the same between llama.cpp and itself in fp32

    def add(self, ours_LV: np.ndarray, theirs_LV: np.ndarray, full_LV: np.ndarray) -> None:
        """Compare the logits behind the same tokens: ours, llama.cpp's, and those on weights in fp32."""
        self.logits = max(self.logits, float(np.abs(ours_LV - full_LV).max()))
        for place, (ours_V, theirs_V, full_V) in enumerate(zip(ours_LV, theirs_LV, full_LV, strict=True)):
            second, first = (int(token) for token in np.argsort(ours_V)[-2:])
            chosen = int(theirs_V.argmax())
            other = second if chosen == first else chosen
            gaps = [float(logits_V[first] - logits_V[other]) for logits_V in (ours_V, theirs_V, full_V)]
            if chosen == first:
                self.rounding = max(self.rounding, abs(gaps[0] - gaps[1]))
                self.own_rounding = max(self.own_rounding, abs(gaps[2] - gaps[1]))
            else:
                number = self.places + place
                self.differences.append(Difference(number, first, chosen, gaps[0], -gaps[1], gaps[2]))
        self.places += len(ours_LV)

    @property
    def problems(self) -> list[str]:
        """What is more than rounding."""
        found = []
        if self.logits > SAME_LOGITS:
            found.append(f"logits differ by {self.logits:.2g} from llama.cpp's in fp32, over {SAME_LOGITS}")
        most = min(self.rounding, self.own_rounding) + 2 * self.logits
        for one in self.differences:
            if one.our_gap > most:
                found.append(
                    f"place {one.place}: a gap of {one.our_gap:.3f} is more than rounding, {most:.3f}"
                )
        return found


def smollm2(path: Path, count: int, new: int, threads: int) -> list[str]:
    """Compare with llama.cpp; prints what is alike and returns what is not."""
    texts, given = prompts(count), {"path": str(path)}
    with (
        Child(Plan("cutaway", "loaded", "tokenising", given | {"texts": texts}, OURS), threads) as ours,
        Child(Plan("llama.cpp", "peers.llama", "tokenising", given | {"texts": texts}), threads) as theirs,
    ):
        (ids,), (expected,) = ours.call(1)["values"], theirs.call(1)["values"]
        print(f"llama.cpp: {theirs.surroundings['llama.cpp']}")
    problems = [f"prompt {n} is other tokens" for n in range(count) if ids[n] != expected[n]]
    found = Compared()
    with tempfile.TemporaryDirectory() as name:
        folder, full = Path(name), Path(name) / "full.gguf"
        write_in_full(path, full)
        given = {"prompts": ids, "folder": name}
        more = {"new": new, "threads": threads, **given}
        plans = (
            Plan("llama.cpp", "peers.llama", "writing", {"path": str(path), **more}),
            Plan("llama.cpp in fp32", "peers.llama", "following", {"path": str(full), **more}),
            Plan("cutaway", "loaded", "following", {"path": str(path), **given}, OURS),
        )
        with (
            Child(plans[0], threads) as writer,
            Child(plans[1], threads) as whole,
            Child(plans[2], threads) as us,
        ):
            for number in range(count):
                (tokens,) = writer.call(1)["values"]
                (folder / "tokens.json").write_text(json.dumps(tokens))
                whole.call(1)
                (own,) = us.call(1)["values"]
                logits = [np.load(folder / f"{side}.npy") for side in ("ours", "theirs", "full")]
                found.add(*logits)
                problems += freely(number, own, tokens, logits[0])
    print(f"{found.places} places, {len(found.differences)} chosen differently")
    print(f"largest difference of logits from llama.cpp in fp32: {found.logits:.2g}")
    print(f"largest move of a gap where both choose alike: {found.rounding:.3f}")
    print(f"the same between llama.cpp and itself in fp32: {found.own_rounding:.3f}")
    for one in found.differences:
        print(one)
    return problems + found.problems


def freely(number: int, own: list[int], tokens: list[int], ours_LV: np.ndarray) -> list[str]:
    """Decoding on its own, we have to write what we choose, up to where the others choose differently."""
    choices = ours_LV.argmax(1).tolist()
    alike = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(choices, tokens, strict=True)))
    return [] if own[: alike + 1] == choices[: alike + 1] else [f"prompt {number}: decoding writes otherwise"]


def write_in_full(path: Path, full: Path) -> None:
    """The same model with every tensor in fp32, by the gguf library alone."""
    reader = gguf.GGUFReader(path)
    architecture, kind = gguf.Keys.General.ARCHITECTURE, gguf.Keys.General.FILE_TYPE
    writer = gguf.GGUFWriter(full, reader.fields[architecture].contents())
    for name, one in reader.fields.items():
        if name.startswith("GGUF.") or name in (architecture, kind):
            continue
        inner = one.types[-1] if one.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, one.contents(), one.types[0], sub_type=inner)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, np.ascontiguousarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def minilm(folder: Path, count: int, threads: int) -> list[str]:
    """Compare with sentence-transformers; prints what is alike and returns what is not."""
    texts = prose()[:count]
    assert len(texts) == count, f"{len(texts)} sentences, {count} were asked for"
    given = {"path": str(folder), "texts": texts}
    with (
        Child(Plan("cutaway", "loaded", "embedding", given, OURS), threads) as ours,
        Child(Plan("sentence-transformers", "peers.vectors", "embedding", given), threads) as theirs,
    ):
        found_BD, expected_BD = (np.array(side.call(1)["values"][0]) for side in (ours, theirs))
    apart, others = (
        np.abs(found_BD - expected_BD).max(),
        np.abs(found_BD - np.roll(expected_BD, 1, 0)).max(1).min(),
    )
    print(
        f"{count} sentences: the largest difference is {apart:.2g}; to another sentence at least {others:.2g}"
    )
    return (
        [f"vectors differ by {apart:.2g}"] if not apart <= SAME_VECTORS or others < 100 * SAME_VECTORS else []
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("--smollm2", type=there, metavar="FILE")
    parser.add_argument("--minilm", type=there, metavar="FOLDER")
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--tokens", type=int, default=NEW)
    parser.add_argument("--sentences", type=int, default=SENTENCES)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    if not (asked.smollm2 or asked.minilm):
        parser.error("nothing to compare: give --smollm2, --minilm or both")
    if not PEERS.exists():
        parser.error("llama.cpp and sentence-transformers are not here: run `make peers` first")
    problems = []
    if asked.minilm:
        problems += minilm(asked.minilm, asked.sentences, asked.threads)
    if asked.smollm2:
        problems += smollm2(asked.smollm2, asked.prompts, asked.tokens, asked.threads)
    for problem in problems:
        print(f"not alike: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
