"""Control tokens that no text can spell.

The library finds a special token in a text where it is not told otherwise, and where it is told, some models
still do: a piece of a unigram vocabulary is a piece, whatever it is for. So beside a tokenizer stands its
double, in which every control token is called by one private-use character: what the text says is text, and
who has the right to a control token writes that character. A text that holds such characters itself gets a
double with others.
"""

import json
import re
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import tokenizers

from cutaway.errors import LimitError

PLANES = (0x10_0000, 0xF_0000)  # of private-use characters, 65,534 each
PLANE = 65_534
TAG = re.compile(r"\s*(<.*>|\[.*\]|\{.*\}|\|.*\|)\s*", re.DOTALL)


class Doubles:
    """The doubles of one tokenizer, made when they are needed, the last one kept; `names` are the control
    tokens.
    """

    def __init__(self, record: dict, names: Sequence[str]):
        if len(names) > PLANE:
            raise LimitError(f"{len(names):,} control tokens: at most {PLANE:,} can be told from text")
        self.record, self.names = record, tuple(names)
        self._made: dict[int, tokenizers.Tokenizer] = {}

    def for_texts(self, texts: Collection[str]) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
        """A double whose characters none of the texts has, and the character of each control token."""
        taken = {ord(letter) for text in texts for letter in set(text) if letter >= "\U000f0000"}
        size = max(len(self.names), 1)
        blocks = (first for plane in PLANES for first in range(plane, plane + PLANE - size + 1, size))
        first = next((block for block in blocks if taken.isdisjoint(range(block, block + size))), None)
        if first is None:
            raise LimitError("the text holds too many private-use characters: take some out")
        letters = {name: chr(first + place) for place, name in enumerate(self.names)}
        if first not in self._made:
            self._made = {first: double(self.record, letters)}
        return self._made[first], letters


def double(record: dict, letters: dict[str, str]) -> tokenizers.Tokenizer:
    """The tokenizer of a tokenizer.json in which some tokens have other names, and their old ids."""
    copy = json.loads(json.dumps(record))
    model = copy["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {letters.get(name, name): number for name, number in model["vocab"].items()}
    else:
        model["vocab"] = [[letters.get(name, name), score] for name, score in model["vocab"]]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = letters.get(model["unk_token"], model["unk_token"])
    if model["type"] == "BPE":
        model["merges"] = [
            merge for merge in model["merges"] if not letters.keys() & {*merge, "".join(merge)}
        ]
    for token in copy["added_tokens"]:
        if token["content"] in letters:
            token |= {"content": letters[token["content"]], "normalized": False, "single_word": False}
            token |= {"lstrip": False, "rstrip": False}
    copy["post_processor"] = None
    return tokenizers.Tokenizer.from_str(json.dumps(copy))


def control_names(record: dict) -> list[str]:
    """The special tokens of a tokenizer.json."""
    return [token["content"] for token in record["added_tokens"] if token["special"]]


def tag_names(record: dict) -> list[str]:
    """The added tokens of a tokenizer.json that are not special but look like it: <tool_call>, [INST]."""
    added = (token["content"] for token in record["added_tokens"] if not token["special"])
    return [name for name in added if TAG.fullmatch(name)]


def control_table(record: dict, ids: Iterable[int]) -> np.ndarray:
    """For each id whether no text may become it: the special ones, but for the unknown token."""
    model = record["model"]
    table = np.zeros(max(ids) + 1, bool)
    for token in record["added_tokens"]:
        table[token["id"]] = token["special"] and token["content"] != model.get("unk_token")
    if model["type"] == "Unigram" and model["unk_id"] is not None:
        table[model["unk_id"]] = False
    return table


def spelled_unknown(record: dict, text: str) -> bool:
    """Whether a text writes out the unknown piece, which a unigram model then takes for a piece."""
    model = record["model"]
    if model["type"] != "Unigram" or model["unk_id"] is None:
        return False
    return model["vocab"][model["unk_id"]][0] in text
