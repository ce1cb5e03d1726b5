"""Every poor corpus through every use of it: it works, or one typed error says why (reliability F8)."""

import numpy as np
import pytest

from cutaway.data.baseline import trigram_bits
from cutaway.data.batches import Batches, evaluation_windows
from cutaway.data.shards import prepare_tokens
from cutaway.data.text import read_documents, split_by_file, split_tail
from cutaway.data.tokenizer import KINDS, train_tokenizer
from cutaway.errors import ConfigError, CutawayError, FileFormatError, InputMissingError, LimitError

LENGTH = 32
WORKS = None
CORPORA = {
    "missing": None,
    "empty": b"",
    "white space": b"  \n\t \r\n",
    "one character": b"x",
    "one character, repeated": b"x" * 500,
    "shorter than the context": b"a short text",
    "not UTF-8": b"caf\xe9 au lait" * 9,
    "NUL": b"text\0text" * 9,
    "byte-order mark": b"\xef\xbb\xbf" + b"enough text to train on, several times over. " * 20,
    "no newline at the end": b"enough text to train on\nseveral times over" * 20,
}
# What a corpus does not pass; every use that is not named here works.
EXPECTED = {
    "missing": dict.fromkeys(("read", "split", "train", "evaluate", "baseline"), InputMissingError),
    "empty": dict.fromkeys(("read", "split", "train", "evaluate", "baseline"), InputMissingError),
    "white space": dict.fromkeys(("read", "split", "train", "evaluate", "baseline"), InputMissingError),
    "not UTF-8": dict.fromkeys(("read", "split", "train", "evaluate", "baseline"), FileFormatError),
    "NUL": dict.fromkeys(("read", "split", "train", "evaluate", "baseline"), FileFormatError),
    "one character": {"split": LimitError, "train": LimitError},
    "shorter than the context": {"train": LimitError},
}


def use(purpose: str, kind: str, path, cache) -> None:
    documents = read_documents(path)
    if purpose == "read":
        return
    if purpose == "split":
        split = split_tail(documents)
        assert split.train and split.validation
        return
    tokenizer = train_tokenizer(kind, [document.text for document in documents], 280)
    tokens = prepare_tokens(documents, tokenizer, cache).tokens
    match purpose:
        case "train":
            ids = Batches(tokens, LENGTH, 4, 0).batch_at(3)
            assert ids.shape == (4, LENGTH + 1) and ids.max() < tokenizer.vocab
        case "evaluate":
            scored = sum(targets.size for _, targets in evaluation_windows(tokens, LENGTH, 4))
            assert scored == len(tokens) - 1
        case "baseline":
            assert np.isfinite(trigram_bits(tokens, tokens, tokenizer.vocab))


@pytest.mark.parametrize("purpose", ["read", "split", "train", "evaluate", "baseline"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CORPORA)
def test_every_cell_works_or_says_why(tmp_path, name, kind, purpose):
    path = tmp_path / "corpus.txt"
    if CORPORA[name] is not None:
        path.write_bytes(CORPORA[name])
    expected = EXPECTED.get(name, {}).get(purpose, WORKS)
    # A character tokenizer has no end token, so one character is one token, and nothing to predict.
    if name == "one character" and kind == "characters" and purpose in ("evaluate", "baseline"):
        expected = LimitError
    if name == "one character, repeated" and kind == "bpe":
        # 500 x are few tokens once merged: training needs more than there are
        expected = {"train": LimitError}.get(purpose, WORKS)
    if expected is WORKS:
        use(purpose, kind, path, tmp_path / "cache")
        return
    with pytest.raises(CutawayError) as caught:
        use(purpose, kind, path, tmp_path / "cache")
    assert type(caught.value) is expected and "\n" not in str(caught.value)


def test_one_document_has_no_split_by_file(tmp_path):
    (tmp_path / "one.txt").write_text("some text")
    with pytest.raises(ConfigError, match="at least 2 documents"):
        split_by_file(read_documents(tmp_path))
