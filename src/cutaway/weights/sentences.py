"""What sentence-transformers writes beside an encoder: how many tokens it reads, how its vectors become one.

modules.json                what follows what: Transformer, Pooling, Normalize, in some folders Dense
NUMBER_Pooling/config.json  pooling_mode, or, as older releases have it, pooling_mode_mean_tokens and others
sentence_bert_config.json   max_seq_length
"""

import re
from pathlib import Path
from typing import Any

from cutaway.errors import FileFormatError
from cutaway.store import read_file, read_json
from cutaway.weights.config import Table, read_config

LENGTH, MODULES, CONFIG = "sentence_bert_config.json", "modules.json", "config.json"
PROMPTS = "config_sentence_transformers.json"
PLAIN = ("Transformer", "Normalize", "Dropout")
DEFAULT = "mean"
MOST_BYTES, DEPTH = 2**20, 8
FOLDER = re.compile(r"[\w-][\w.-]*")
MARK = "pooling_mode_"
WORDS = {"cls_token": "cls", "mean_tokens": "mean", "lasttoken": "last"}  # as the older files have them


def read_length(folder: Path, most: int) -> int:
    """To how many tokens the encoder was trained: `most`, or fewer where the folder says so."""
    if not (folder / LENGTH).is_file():
        return most
    return min(most, read_config(folder / LENGTH).optional("max_seq_length") or most)


def read_pool(folder: Path) -> str:
    """How the vectors of a text become one: mean, cls, or the name of what is not built; mean where the
    folder does not say it.

    Raises FileFormatError for files that are damaged, InputMissingError for one that is missing.
    """
    steps = []
    for kind, place in modules(folder):
        if kind == "Pooling":
            steps.append(pooling(read_config(folder / place / CONFIG)))
        elif kind not in PLAIN:
            steps.append(kind)
    return ", then ".join(steps) or DEFAULT


def describing(folder: Path) -> list[Path]:
    """The files that say it, for a copy of the encoder; none where weights that are not read belong to it."""
    found = modules(folder)
    if not found or not {kind for kind, _ in found} <= {"Pooling", *PLAIN}:
        return []
    pools = [folder / place / CONFIG for kind, place in found if kind == "Pooling"]
    return [folder / MODULES, *pools] + [path for path in [folder / PROMPTS] if path.is_file()]


def modules(folder: Path) -> list[tuple[str, str]]:
    """The kind and the folder of each module in turn; none where the folder lists none."""
    path = folder / MODULES
    if not path.is_file():
        return []
    found = read_json(path, read_file(path, MOST_BYTES, "list of modules"), DEPTH)
    if not isinstance(found, list) or not all(isinstance(module, dict) for module in found):
        raise FileFormatError(path, "must be a list of modules")
    listed = []
    for module in (Table(module, path) for module in found):
        kind, place = module.take("type"), module.take("path", "") or ""
        if type(kind) is not str or type(place) is not str or (place and not FOLDER.fullmatch(place)):
            raise module.refuse("path", "a module has a type, and the name of a folder in this one")
        listed.append((kind.rpartition(".")[2], place))
    return listed


def pooling(table: Table) -> str:
    """The way of a Pooling module, or several joined by +."""
    found: Any = table.take("pooling_mode", None)
    if not any(key.startswith("pooling_mode") for key in table.values):
        return DEFAULT
    if found is None:
        marked = [key for key, value in table.values.items() if key.startswith(MARK) and value is True]
        found = [WORDS.get(name, name) for name in (key.removeprefix(MARK) for key in marked)]
    names = [found] if isinstance(found, str) else found
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise table.refuse("pooling_mode", "must name a way")
    return "+".join(names)
