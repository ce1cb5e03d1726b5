"""The metadata of one architecture, `llama.block_count` and the like, asked key by key; what is left over."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from cutaway.errors import FileFormatError
from cutaway.weights.gguf.header import Gguf

MOST = 2**31 - 1
ROPE = "rope.scaling"


@dataclass(frozen=True)
class Line:
    """One tensor: its Hugging Face name, its shape in the GGUF file, what turns it into theirs."""

    name: str
    shape: tuple[int, ...]
    turn: Callable[[Tensor], Tensor] | None = None


class Keys:
    """Asks for keys of an architecture and remembers which were asked for, so that none goes unseen."""

    def __init__(self, gguf: Gguf, architecture: str):
        self.gguf, self.prefix = gguf, f"{architecture}."
        self.asked: set[str] = set()

    def refuse(self, key: str, rule: str) -> FileFormatError:
        return FileFormatError(self.gguf.path, f"{self.prefix}{key}: {rule}")

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, an array as a list: so that it can be compared with anything."""
        self.asked.add(key)
        value = self.gguf.metadata.get(self.prefix + key, default)
        return value.tolist() if isinstance(value, np.ndarray) else value

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number from 1 on; FileFormatError where it is none, or missing without a default."""
        value = self.get(key, default)
        if value is None:
            raise self.refuse(key, "missing; the model cannot be told without it")
        if type(value) is not int or not 1 <= value <= MOST:
            raise self.refuse(key, f"{str(value)[:60]} is not a whole number from 1 to {MOST:,}")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A finite number above 0; FileFormatError where it is none, or missing without a default."""
        value = self.get(key, default)
        if value is None:
            raise self.refuse(key, "missing; the model cannot be told without it")
        if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
            raise self.refuse(key, f"{str(value)[:60]} is not a finite number above 0")
        return float(value)

    def only(self, key: str, value: object, rule: str) -> None:
        """FileFormatError with the rule where a key is there and says another value."""
        if (found := self.get(key, value)) != value:
            raise self.refuse(key, f"{str(found)[:60]}: {rule}")

    def check_all_asked(self) -> None:
        """FileFormatError where a key of the architecture was not asked for: it may change the model."""
        for key in self.gguf.metadata:
            if key.startswith(self.prefix) and key.removeprefix(self.prefix) not in self.asked:
                raise FileFormatError(self.gguf.path, f"{key}: not known here, and it may change the model")

    def token(self, name: str) -> int | None:
        """The id of a special token (bos, eos, padding, unknown), None where the file names none."""
        value = self.gguf.metadata.get(f"tokenizer.ggml.{name}_token_id")
        return value if type(value) is int and 0 <= value <= MOST else None
