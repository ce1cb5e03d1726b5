"""Byte-level byte-pair encoding (Radford et al. 2019) from a `vocab.json` and a `merges.txt`."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

from cutaway.data.vocabularies.tables import check_ids, checked, read_text
from cutaway.errors import FileFormatError
from cutaway.store import read_object

# How text is cut before bytes are joined, by the name that GGUF files give the pattern.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
PATTERNS: dict[str, str | None] = {
    "gpt-2": None,  # the library's own
    "default": None,
    "smollm": None,  # and digits one by one
    "llama-bpe": LLAMA3,
    "llama3": LLAMA3,
    "llama-v3": LLAMA3,
    "qwen2": QWEN2,
    "deepseek-r1-qwen": QWEN2,
}
DIGITS_ALONE = ("smollm",)
LLAMA3_NAMES = ("llama-bpe", "llama3", "llama-v3")  # a word that is a token stays whole, whatever its merges


def read_byte_level(folder: str | Path, settings: dict[str, Any]) -> tokenizers.Tokenizer:
    """The tokenizer of a folder's `vocab.json` and `merges.txt`; `settings`: add_prefix_space,
    tokenizer_class.

    Raises InputMissingError where one is not there, FileFormatError where one is wrong.
    """
    folder = Path(folder)
    vocabulary = check_ids(folder / "vocab.json", read_object(folder / "vocab.json"))
    merges = read_merges(folder / "merges.txt", vocabulary)
    prefix = checked(folder / "tokenizer_config.json", settings, "add_prefix_space", bool, False)
    qwen = str(settings.get("tokenizer_class", "")).startswith("Qwen2")
    inner = byte_level_tokenizer(
        folder / "vocab.json", vocabulary, merges, "qwen2" if qwen else "gpt-2", prefix
    )
    if qwen:
        inner.normalizer = tokenizers.normalizers.NFC()
    return inner


def read_merges(path: Path, vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    """The pairs of a `merges.txt`, the first learned first; raises as `check_merges`."""
    lines = read_text(path).split("\n")
    begin = 1 if lines[0].startswith("#version") else 0
    pairs = [line.removesuffix("\r") for line in lines]
    return check_merges(
        path, ((place, line) for place, line in enumerate(pairs) if place >= begin and line), vocabulary
    )


def check_merges(
    path: Path, lines: Iterable[tuple[int, str]], vocabulary: Mapping[str, int]
) -> list[tuple[str, str]]:
    """The pairs that numbered lines "left right" name. Raises FileFormatError for a line that is no pair, is
    there twice, or whose pieces or their join are no tokens.
    """
    pairs: dict[tuple[str, str], None] = {}
    for place, line in lines:
        left, space, right = line.partition(" ")
        if not (left and space and right) or " " in right:
            raise FileFormatError(
                path, f"merge {place + 1}: {line[:40]!r} is not two pieces with a space between"
            )
        for name in (left, right, left + right):
            if name not in vocabulary:
                raise FileFormatError(path, f"merge {place + 1}: {name[:40]!r} is no token of the vocabulary")
        if (left, right) in pairs:
            raise FileFormatError(path, f"merge {place + 1}: {line[:40]!r} is there twice")
        pairs[left, right] = None
    return list(pairs)


def byte_level_tokenizer(
    path: Path,
    vocabulary: dict[str, int],
    merges: Sequence[tuple[str, str]],
    pattern: str = "gpt-2",
    prefix: bool = False,
) -> tokenizers.Tokenizer:
    """The tokenizer of a byte-level vocabulary; FileFormatError for a pattern that is not built."""
    if pattern not in PATTERNS:
        raise FileFormatError(path, f"text is cut as in {pattern!r}: known are {', '.join(PATTERNS)}")
    inner = tokenizers.Tokenizer(
        models.BPE(
            vocabulary,
            list(merges),
            continuing_subword_prefix="",
            end_of_word_suffix="",
            ignore_merges=pattern in LLAMA3_NAMES,
        )
    )
    regex = PATTERNS[pattern]
    steps: list = [pre_tokenizers.Digits(individual_digits=True)] if pattern in DIGITS_ALONE else []
    if regex is not None:
        steps.append(pre_tokenizers.Split(Regex(regex), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex is None))
    inner.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
    inner.decoder = decoders.ByteLevel()
    return inner
