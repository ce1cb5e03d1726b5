"""Where a long text may be cut so that its pieces encode independently."""

PIECE_CHARACTERS = 2**16


def cuts_like_gpt2(record: dict) -> bool:
    """Whether a tokenizer.json cuts words by GPT-2's pattern and does nothing else to a text before.

    That pattern ends a word before any newline that follows something other than white space, and looks at
    nothing before the place where it stands.
    """
    cutter = record["pre_tokenizer"] or {}
    cuts = cutter.get("type") == "ByteLevel" and cutter["use_regex"] and not cutter["add_prefix_space"]
    return cuts and record["normalizer"] is None and all(token["special"] for token in record["added_tokens"])


def before_newlines(text: str) -> list[str]:
    """A text in pieces, cut before the first newline behind something other than white space."""
    pieces, start = [], 0
    while len(text) - start > PIECE_CHARACTERS:
        cut = start + PIECE_CHARACTERS
        while (cut := text.find("\n", cut)) > 0 and text[cut - 1].isspace():
            cut += 1
        if cut < 0:
            break
        pieces.append(text[start:cut])
        start = cut
    return [*pieces, text[start:]]
