"""A vocabulary of pieces with scores (sentencepiece), as a tokenizer of the tokenizers library.

unigram: the segmentation with the highest sum of scores (Kudo 2018). bpe: from characters on, the neighbours
whose join has the highest score are joined (Sennrich et al. 2016, with sentencepiece's order). A space is
written U+2581; `prefix` puts one in front of a text, `squeeze` leaves one of several and none at the ends;
`charsmap` rewrites characters before that. A character that no piece covers is `<unk>`, or its bytes <0xNN>.

Control pieces are never read from a text, bytes and unused ones neither: no merge leads to them. In a unigram
vocabulary the library would find them; `Tokenizer.encode` looks after that.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from cutaway.data.vocabularies.tables import check_name
from cutaway.errors import FileFormatError

SPACE = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = "normal", "unknown", "control", "user", "unused", "byte"
BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
MOST_MERGED = 256  # characters of a piece that others are joined to
# Spaces in front and behind; each run of them is looked at once, however long it is.
ENDS = rf"\A(?> +[ {SPACE}]*)\z|\A +|(?<![ {SPACE}])[ {SPACE}]+\z"


@dataclass(frozen=True)
class Pieces:
    """Names, scores and kinds by id, and how text is made ready for them. `begin`, `end`, `pad` are ids."""

    names: tuple[str, ...]
    scores: tuple[float, ...]
    kinds: tuple[str, ...]
    algorithm: str
    byte_fallback: bool = False
    charsmap: bytes = b""
    prefix: bool = True
    squeeze: bool = True
    begin: int | None = None
    end: int | None = None
    pad: int | None = None

    @property
    def unknown(self) -> int:
        """The id for what no piece covers."""
        return self.kinds.index(UNKNOWN)


def check_pieces(path: Path, pieces: Pieces) -> None:
    """Raises FileFormatError where pieces are missing, empty or there twice, or bytes are not 256."""
    if not pieces.names:
        raise FileFormatError(path, "holds no piece: not a sentencepiece model, or cut off")
    seen: dict[str, int] = {}
    for number, (name, kind) in enumerate(zip(pieces.names, pieces.kinds, strict=True)):
        if not name:
            raise FileFormatError(path, f"piece {number} is empty; fetch the file again")
        check_name(path, name, number)
        if name in seen:
            raise FileFormatError(path, f"pieces {seen[name]} and {number} are both {name!r}")
        if kind == BYTE and name not in BYTES:
            raise FileFormatError(path, f"piece {number}: {name!r} is no byte, such as <0x0A>")
        if kind == NORMAL and pieces.algorithm == "bpe" and len(name) > MOST_MERGED:
            raise FileFormatError(
                path, f"piece {number} has {len(name)} characters, at most {MOST_MERGED} may be"
            )
        seen[name] = number
    unknown = pieces.kinds.count(UNKNOWN)
    if unknown != 1:
        raise FileFormatError(path, f"{unknown} pieces are for what is unknown; must be one")
    bytes_ = pieces.kinds.count(BYTE)
    if pieces.byte_fallback and bytes_ != 256:
        raise FileFormatError(path, f"{bytes_} pieces for bytes (byte_fallback); must be 256")


def pieces_tokenizer(path: Path, pieces: Pieces) -> tokenizers.Tokenizer:
    """The tokenizer of such a vocabulary. Raises FileFormatError as `check_pieces` does."""
    check_pieces(path, pieces)
    inner = tokenizers.Tokenizer(_bpe(pieces) if pieces.algorithm == "bpe" else _unigram(pieces))
    inner.normalizer = _normalizer(pieces)
    if words_are_apart(pieces):
        inner.pre_tokenizer = pre_tokenizers.Split(Regex(f"{SPACE}+[^{SPACE}]*"), "isolated")
    steps: list = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if pieces.prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    inner.decoder = decoders.Sequence(steps)
    add_pieces(inner, pieces.names, pieces.kinds)
    return inner


def add_pieces(inner: tokenizers.Tokenizer, names: tuple[str, ...], kinds: tuple[str, ...]) -> None:
    """Makes control pieces and the unknown one special, and user-defined ones whole wherever they stand."""
    inner.add_special_tokens(
        [
            AddedToken(name, normalized=False, special=True)
            for name, kind in zip(names, kinds, strict=True)
            if kind in (CONTROL, UNKNOWN)
        ]
    )
    inner.add_tokens(
        [
            AddedToken(name, normalized=False, special=False)
            for name, kind in zip(names, kinds, strict=True)
            if kind == USER
        ]
    )


def words_are_apart(pieces: Pieces) -> bool:
    """Whether no piece reaches over the beginning of a word, so that words can be read one by one."""
    over = re.compile(f"[^{SPACE}]{SPACE}")
    spelled = {name for name, kind in zip(pieces.names, pieces.kinds, strict=True) if kind == NORMAL}
    return SPACE in spelled and not any(over.search(name) for name in spelled)


def merges_of(
    names: tuple[str, ...], scores: tuple[float, ...], kinds: tuple[str, ...]
) -> list[tuple[str, str]]:
    """Every two pieces whose join is a piece, in the order in which they are joined: by the join's score."""
    known = {name: number for number, name in enumerate(names) if kinds[number] == NORMAL}
    found = []
    for name, number in known.items():
        for cut in range(1, len(name)):
            left, right = name[:cut], name[cut:]
            if left in known and right in known:
                found.append((-scores[number], -cut, known[left], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def _bpe(pieces: Pieces) -> models.BPE:
    return models.BPE(
        {name: number for number, name in enumerate(pieces.names)},
        merges_of(pieces.names, pieces.scores, pieces.kinds),
        unk_token=pieces.names[pieces.unknown],
        fuse_unk=True,
        byte_fallback=pieces.byte_fallback,
    )


def _unigram(pieces: Pieces) -> models.Unigram:
    return models.Unigram(
        list(zip(pieces.names, pieces.scores, strict=True)), pieces.unknown, pieces.byte_fallback
    )


def _normalizer(pieces: Pieces) -> normalizers.Normalizer:
    steps: list = [normalizers.Precompiled(pieces.charsmap)] if pieces.charsmap else []
    if pieces.squeeze:
        steps += [
            normalizers.Replace(Regex(ENDS), ""),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    if pieces.prefix:
        steps.append(normalizers.Prepend(SPACE))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
