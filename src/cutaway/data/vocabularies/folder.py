"""The tokenizer of a Hugging Face folder, from whichever files hold its vocabulary.

In this order: tokenizer.json; source.spm with target.spm and vocab.json (Marian); tokenizer.model or
spiece.model (sentencepiece); vocab.json with merges.txt (byte-level pairs); vocab.txt (WordPiece).
"""

from pathlib import Path

import tokenizers

from cutaway.data.loading import load_tokenizer
from cutaway.data.tokenizer import Tokenizer
from cutaway.data.vocabularies.bytelevel import read_byte_level
from cutaway.data.vocabularies.marian import read_marian
from cutaway.data.vocabularies.pieces import Pieces, pieces_tokenizer
from cutaway.data.vocabularies.sentencepiece import read_sentencepiece
from cutaway.data.vocabularies.special import (
    Special,
    add_tokens,
    check_whole,
    ids_of,
    put_around,
    read_special,
)
from cutaway.data.vocabularies.tables import checked
from cutaway.data.vocabularies.wordpiece import ROLES, read_wordpiece
from cutaway.errors import FileFormatError, InputMissingError

PIECES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
BLANKS = 100  # tokens that T5 fills in, counted down behind its pieces
GPT2_END = "<|endoftext|>"


def read_vocabulary(folder: str | Path) -> Tokenizer:
    """The tokenizer of a folder.

    Raises InputMissingError where it holds no vocabulary, FileFormatError naming file and rule where one is
    damaged, or where special tokens do not fit it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputMissingError(f"{folder}: no such folder; check the path")
    special = read_special(folder)
    if (folder / "tokenizer.json").is_file():
        return _checked(special, load_tokenizer(folder / "tokenizer.json", **_roles(special, {})))
    if (folder / "source.spm").is_file():
        return read_marian(folder, special)
    for name in PIECES:
        if (folder / name).is_file():
            return _of_pieces(folder / name, special)
    if (folder / "merges.txt").is_file():
        inner = read_byte_level(folder, special.settings)
        known = inner.get_vocab()
        defaults = dict.fromkeys(
            ("bos_token", "eos_token", "unk_token"), GPT2_END if GPT2_END in known else None
        )
        return _finished(folder / "vocab.json", inner, special, defaults)
    if (folder / "vocab.txt").is_file():
        inner = read_wordpiece(folder / "vocab.txt", special.settings, special.roles)
        known = inner.get_vocab()
        defaults: dict[str, str | None] = {role: name for role, name in ROLES.items() if name in known}
        return _finished(folder / "vocab.txt", inner, special, defaults)
    raise InputMissingError(
        f"{folder}: no vocabulary; one of tokenizer.json, {', '.join(PIECES)}, source.spm, merges.txt and "
        "vocab.txt is needed"
    )


def _of_pieces(path: Path, special: Special) -> Tokenizer:
    pieces = read_sentencepiece(path)
    begin, end, pad = (
        None if at is None else pieces.names[at] for at in (pieces.begin, pieces.end, pieces.pad)
    )
    defaults = {
        "bos_token": begin,
        "eos_token": end,
        "pad_token": pad,
        "unk_token": pieces.names[pieces.unknown],
    }
    blanks = path.name == "spiece.model" and _is_t5(path, special, pieces)
    inner = pieces_tokenizer(path, pieces)
    if blanks:
        count = checked(special.path, special.settings, "extra_ids", int, BLANKS)
        if not 0 <= count <= 1_000:
            raise FileFormatError(special.path, f"extra_ids {count}: must lie between 0 and 1,000")
        inner.add_special_tokens([f"<extra_id_{number}>" for number in reversed(range(count))])
    tokenizer = _finished(path, inner, special, defaults)
    begins = checked(special.path, special.settings, "add_bos_token", bool, not blanks and pieces.prefix)
    ends = checked(special.path, special.settings, "add_eos_token", bool, blanks)
    names = tokenizer.names
    put_around(
        inner,
        [names[tokenizer.begin]] if begins and tokenizer.begin is not None else [],
        [names[tokenizer.end]] if ends and tokenizer.end is not None else [],
    )
    return _checked(special, _made(inner, special, defaults))


def _is_t5(path: Path, special: Special, pieces: Pieces) -> bool:
    """T5 adds an end to texts and blanks to its pieces; its files say so, or have no beginning of texts."""
    named = special.settings.get("tokenizer_class")
    if isinstance(named, str):
        return named.startswith(("T5", "MT5"))
    return "extra_ids" in special.settings or (pieces.begin is None and pieces.algorithm == "unigram")


def _finished(
    path: Path, inner: tokenizers.Tokenizer, special: Special, defaults: dict[str, str | None]
) -> Tokenizer:
    """The tokenizer with what the folder's other files add to it."""
    inner.add_special_tokens([name for name in dict.fromkeys(defaults.values()) if name])
    add_tokens(inner, special)
    check_whole(path, inner)
    return _checked(special, _made(inner, special, defaults))


def _made(inner: tokenizers.Tokenizer, special: Special, defaults: dict[str, str | None]) -> Tokenizer:
    roles = _roles(special, defaults)
    return Tokenizer(inner, roles.pop("end"), **roles)


def _roles(special: Special, defaults: dict[str, str | None]) -> dict:
    """The arguments of `Tokenizer`: BERT's separator ends its texts, and its class token begins them."""

    def named(*roles: str) -> str | None:
        names = [special.roles.get(role) or defaults.get(role) for role in roles]
        return next((name for name in names if name), None)

    return {
        "end": named("eos_token", "sep_token"),
        "begin": named("bos_token", "cls_token"),
        "pad": named("pad_token"),
        "unknown": named("unk_token"),
        "start": None,
    }


def _checked(special: Special, tokenizer: Tokenizer) -> Tokenizer:
    """The same with the ends and the start that files name; FileFormatError for an id past the end."""
    ends, start = ids_of(special, tokenizer.names)
    tokenizer.ends |= ends
    tokenizer.start = start
    return tokenizer
