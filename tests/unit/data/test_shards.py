"""Token shards: the right ids in the smallest type, found again by what they were made of, mended when
damaged.
"""

import json
import os
from multiprocessing import get_context

import numpy as np
import pytest

from cutaway.data.shards import default_cache, open_shard, prepare_tokens, token_type
from cutaway.data.text import Document
from cutaway.data.tokenizer import byte_tokenizer, train_tokenizer
from cutaway.errors import FileFormatError, LimitError, SaveError

DOCUMENTS = [Document("a.txt", "héllo\n"), Document("b/c.txt", "world"), Document("d.txt", "!")]


@pytest.mark.parametrize(
    ("vocab", "bytes_each"), [(1, 1), (2, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 4), (2**32, 4)]
)
def test_ids_take_the_smallest_type_that_holds_them(vocab, bytes_each):
    assert token_type(vocab).itemsize == bytes_each and token_type(vocab).kind == "u"
    assert np.array([vocab - 1]).astype(token_type(vocab))[0] == vocab - 1


@pytest.mark.parametrize("kind", ["bytes", "characters", "bpe"])
def test_a_shard_holds_every_document_with_its_end(tmp_path, kind):
    tokenizer = train_tokenizer(kind, [document.text for document in DOCUMENTS], 260)
    shard = prepare_tokens(DOCUMENTS, tokenizer, tmp_path)
    assert isinstance(shard.tokens, np.memmap) and not shard.tokens.flags.writeable
    assert shard.tokens.dtype == token_type(tokenizer.vocab)
    assert shard.bytes == sum(len(document.text.encode()) for document in DOCUMENTS)
    for document, span in zip(DOCUMENTS, shard.documents, strict=True):
        ids = shard.tokens[span.start : span.end].tolist()
        ending = [] if tokenizer.end is None else [tokenizer.end]
        assert ids == tokenizer.encode(document.text).tolist() + ending and span.name == document.name
    assert shard.documents[-1].end == len(shard.tokens)


def test_what_is_in_the_cache_is_not_made_again(tmp_path, monkeypatch):
    tokenizer = byte_tokenizer()
    first = prepare_tokens(DOCUMENTS, tokenizer, tmp_path)
    monkeypatch.setattr(type(tokenizer), "encode_documents", None)
    again = prepare_tokens(DOCUMENTS, tokenizer, tmp_path)
    assert np.array_equal(first.tokens, again.tokens) and first.documents == again.documents
    with pytest.raises(TypeError):  # negative control: another corpus is made
        prepare_tokens(DOCUMENTS[:1], tokenizer, tmp_path)


def test_the_digest_covers_names_texts_their_borders_and_the_tokenizer(tmp_path):
    tokenizer = byte_tokenizer()
    corpora = [
        DOCUMENTS,
        DOCUMENTS[::-1],
        DOCUMENTS[:2],
        [Document("a.txt", "héllo\nworld"), Document("b/c.txt", ""), DOCUMENTS[2]],
        [Document("z.txt", "héllo\n"), *DOCUMENTS[1:]],
    ]
    digests = [prepare_tokens(corpus, tokenizer, tmp_path).digest for corpus in corpora]
    digests.append(prepare_tokens(DOCUMENTS, train_tokenizer("bpe", ["x"], 300), tmp_path).digest)
    assert len(set(digests)) == 6
    assert sorted(os.listdir(tmp_path / "tokens")) == sorted(digests)


@pytest.mark.parametrize("damage", ["cut", "gone", "no manifest", "extra"])
def test_a_damaged_shard_is_refused_and_made_again(tmp_path, damage):
    tokenizer = byte_tokenizer()
    good = np.array(prepare_tokens(DOCUMENTS, tokenizer, tmp_path).tokens)
    (folder,) = (tmp_path / "tokens").iterdir()
    match damage:
        case "cut":
            os.truncate(folder / "tokens.bin", 3)
        case "gone":
            (folder / "tokens.bin").unlink()
        case "no manifest":
            (folder / "manifest.json").unlink()
        case "extra":
            (folder / "more.bin").touch()
    with pytest.raises(FileFormatError):
        open_shard(folder)
    assert np.array_equal(prepare_tokens(DOCUMENTS, tokenizer, tmp_path).tokens, good)


def test_a_shard_of_a_later_format_is_refused(tmp_path):
    prepare_tokens(DOCUMENTS, byte_tokenizer(), tmp_path)
    (folder,) = (tmp_path / "tokens").iterdir()
    record = json.loads((folder / "shard.json").read_text())
    (folder / "shard.json").write_text(json.dumps({**record, "format": 2}))
    with pytest.raises(FileFormatError, match="format 2"):
        open_shard(folder)


def test_an_unknown_character_leaves_nothing_behind(tmp_path):
    with pytest.raises(LimitError, match=r"a\.txt: character"):
        prepare_tokens(DOCUMENTS, train_tokenizer("characters", ["abc"]), tmp_path)
    assert os.listdir(tmp_path / "tokens") == []


def test_the_cache_is_where_the_user_says(tmp_path, monkeypatch):
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path / "home"))
    prepare_tokens(DOCUMENTS, byte_tokenizer())
    assert len(list((tmp_path / "home/tokens").iterdir())) == 1
    monkeypatch.delenv("CUTAWAY_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache/cutaway"


def test_a_cache_that_cannot_be_a_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match="not saved"):
        prepare_tokens(DOCUMENTS, byte_tokenizer(), tmp_path / "file")


def make_shard(cache) -> list[int]:
    return prepare_tokens(DOCUMENTS * 200, byte_tokenizer(), cache).tokens.tolist()


def test_processes_that_make_the_same_shard_at_once_agree(tmp_path):
    with get_context("spawn").Pool(4) as pool:
        results = pool.map(make_shard, [tmp_path] * 8)
    assert all(result == results[0] for result in results)
    assert len(os.listdir(tmp_path / "tokens")) == 1
