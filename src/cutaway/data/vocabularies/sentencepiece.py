"""A sentencepiece `.model` (Kudo & Richardson 2018), read without that library: pieces, scores, settings.

The file is a protocol buffer, `ModelProto` of sentencepiece_model.proto: the fields read here have the
numbers of that schema, all others are passed over. What would change ids and is not built is refused by name.
"""

import math
from pathlib import Path

from cutaway.data.charsmap import check_charsmap
from cutaway.data.vocabularies import protobuf
from cutaway.data.vocabularies.pieces import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER,
    Pieces,
    check_pieces,
)
from cutaway.data.vocabularies.tables import MOST_BYTES, MOST_IDS
from cutaway.errors import FileFormatError
from cutaway.store import read_file

KINDS = (NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE)  # from 1 on
ALGORITHMS = {1: "unigram", 2: "bpe"}
OTHERS = {3: "word", 4: "char"}
# field number: name and value where the file does not say, of TrainerSpec and NormalizerSpec
TRAINER = {
    3: ("model_type", 1),
    24: ("treat_whitespace_as_suffix", 0),
    35: ("byte_fallback", 0),
    40: ("unk_id", 0),
    41: ("bos_id", 1),
    42: ("eos_id", 2),
    43: ("pad_id", -1),
}
NORMALIZER = {
    2: ("precompiled_charsmap", b""),
    3: ("add_dummy_prefix", 1),
    4: ("remove_extra_whitespaces", 1),
    5: ("escape_whitespaces", 1),
}


def read_sentencepiece(path: str | Path) -> Pieces:
    """The vocabulary of a `.model` or `.spm` file.

    Raises InputMissingError where there is none, FileFormatError naming byte and rule where it is damaged or
    asks for something that is not built.
    """
    path = Path(path)
    return parse_sentencepiece(path, read_file(path, MOST_BYTES, "vocabulary"))


def parse_sentencepiece(path: Path, data: bytes) -> Pieces:
    """The vocabulary of the bytes of such a file; `path` is for messages, which are as above."""
    names: list[str] = []
    scores: list[float] = []
    kinds: list[str] = []
    trainer, normalizer = _defaults(TRAINER), _defaults(NORMALIZER)
    reader = protobuf.Reader(path, data)
    for number, kind, value, place in reader.fields():
        if number not in (1, 2, 3, 5):
            continue
        if kind != protobuf.BYTES:
            raise FileFormatError(path, f"field {number} is no message; not a sentencepiece model", place)
        assert isinstance(value, bytes)
        inner = protobuf.Reader(path, data, reader.place - len(value), reader.place)
        if number == 1:
            if len(names) >= MOST_IDS:
                raise FileFormatError(path, f"more than {MOST_IDS:,} pieces", place)
            name, score, sort = _piece(path, inner, place)
            names.append(name)
            scores.append(score)
            kinds.append(sort)
        elif number == 2:
            _settings(path, inner, TRAINER, trainer)
        elif number == 3:
            _settings(path, inner, NORMALIZER, normalizer)
        elif any(field == 2 and content for field, _, content, _ in inner.fields()):
            raise FileFormatError(
                path, "the text is changed when it is decoded (denormalizer_spec): not built"
            )
    return _assembled(path, names, scores, kinds, trainer, normalizer)


def _assembled(path: Path, names: list, scores: list, kinds: list, trainer: dict, normalizer: dict) -> Pieces:
    algorithm = ALGORITHMS.get(trainer["model_type"])
    if algorithm is None:
        what = OTHERS.get(trainer["model_type"], trainer["model_type"])
        raise FileFormatError(path, f"model_type {what}: only unigram and bpe are built")
    if trainer["treat_whitespace_as_suffix"] or not normalizer["escape_whitespaces"]:
        raise FileFormatError(
            path, "spaces are not kept in front of words (treat_whitespace_as_suffix): not built"
        )
    charsmap = normalizer["precompiled_charsmap"]
    if charsmap:
        check_charsmap(path, charsmap)
    pieces = Pieces(
        names=tuple(names),
        scores=tuple(scores),
        kinds=tuple(kinds),
        algorithm=algorithm,
        byte_fallback=bool(trainer["byte_fallback"]),
        charsmap=charsmap,
        prefix=bool(normalizer["add_dummy_prefix"]),
        squeeze=bool(normalizer["remove_extra_whitespaces"]),
        begin=_given(trainer["bos_id"], kinds),
        end=_given(trainer["eos_id"], kinds),
        pad=_given(trainer["pad_id"], kinds),
    )
    check_pieces(path, pieces)
    return pieces


def _given(number: int, kinds: list[str]) -> int | None:
    """An id of the file's own settings, where it is that of a control piece."""
    return number if 0 <= number < len(kinds) and kinds[number] == CONTROL else None


def _defaults(fields: dict) -> dict:
    return dict(fields.values())


def _piece(path: Path, reader: protobuf.Reader, place: int) -> tuple[str, float, str]:
    name, score, kind = b"", 0.0, 1
    for number, sort, value, at in reader.fields():
        wanted = {1: protobuf.BYTES, 2: protobuf.FIXED32, 3: protobuf.VARINT}.get(number)
        if wanted is not None and sort != wanted:
            raise FileFormatError(path, f"field {number} of a piece is of kind {sort}, not {wanted}", at)
        if number == 1:
            assert isinstance(value, bytes)
            name = value
        elif number == 2:
            score = protobuf.as_float(value)
        elif number == 3:
            assert isinstance(value, int)
            kind = value
    if not 1 <= kind <= len(KINDS):
        raise FileFormatError(path, f"a piece is of unknown type {kind}", place)
    if not math.isfinite(score):
        raise FileFormatError(path, f"the score of a piece is {score}, not a number", place)
    try:
        return name.decode("utf-8"), score, KINDS[kind - 1]
    except UnicodeDecodeError:
        raise FileFormatError(path, "a piece is not UTF-8; fetch the file again", place) from None


def _settings(path: Path, reader: protobuf.Reader, fields: dict, found: dict) -> None:
    for number, kind, value, at in reader.fields():
        if number not in fields:
            continue
        name, default = fields[number]
        if kind != (protobuf.BYTES if isinstance(default, bytes) else protobuf.VARINT):
            raise FileFormatError(path, f"{name} is of kind {kind}; not a sentencepiece model", at)
        found[name] = value if isinstance(value, bytes) else protobuf.as_signed(value)
