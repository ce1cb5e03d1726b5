"""WordPiece (Schuster & Nakajima 2012; as in BERT, Devlin et al. 2018) from a `vocab.txt`: one token a line.

Text is cut at white space and punctuation; of each word the longest token that begins it is taken, then the
longest that goes on, which are written with ## in front; a word that cannot be spelled so is [UNK].
"""

from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from cutaway.data.vocabularies.tables import MOST_IDS, check_name, checked, read_text
from cutaway.errors import FileFormatError

MARK = "##"
ROLES = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def read_wordpiece(path: str | Path, settings: dict[str, Any], roles: dict[str, str]) -> tokenizers.Tokenizer:
    """The tokenizer of a `vocab.txt`. `settings` are those of tokenizer_config.json: do_lower_case,
    strip_accents, tokenize_chinese_chars; `roles` the special tokens' names.

    Raises InputMissingError where there is no such file, FileFormatError where it or a setting is wrong.
    """
    path = Path(path)
    vocabulary: dict[str, int] = {}
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    if len(lines) > MOST_IDS:
        raise FileFormatError(path, f"more than {MOST_IDS:,} lines")
    for number, name in enumerate(lines):
        check_name(path, name, number)
        if name in vocabulary:
            raise FileFormatError(path, f"lines {vocabulary[name] + 1} and {number + 1} are both {name!r}")
        vocabulary[name] = number
    named = ROLES | roles
    for role in ("unk_token", "cls_token", "sep_token"):
        if named[role] not in vocabulary:
            raise FileFormatError(
                path, f"{role} {named[role]!r} is no line of it: another model's vocabulary"
            )
    inner = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=named["unk_token"]))
    inner.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=checked(path, settings, "tokenize_chinese_chars", bool, True),
        strip_accents=checked(path, settings, "strip_accents", bool),
        lowercase=checked(path, settings, "do_lower_case", bool, True),
    )
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece(prefix=MARK)
    first, last = named["cls_token"], named["sep_token"]
    inner.post_processor = processors.TemplateProcessing(
        single=f"{first}:0 $A:0 {last}:0",
        pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
        special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])],
    )
    return inner
