"""Tokenizers: exact round trips, equal to Hugging Face's reading of the same file, damaged files refused."""

import itertools
import json
import random
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.data.cutting import PIECE_CHARACTERS
from cutaway.data.loading import load_tokenizer
from cutaway.data.spelling import BYTE_CHARACTERS
from cutaway.data.text import Document
from cutaway.data.tokenizer import byte_tokenizer, subword_tokenizer, train_tokenizer
from cutaway.errors import ConfigError, CutawayError, FileFormatError, InputMissingError, LimitError

SHAKESPEARE = Path(__file__).parents[3] / "../shared/data/tinyshakespeare/input.txt"
CORPUS = [
    "def f(x):\n    return x + 1\n\n\n# naïve – Привет 日本語 👩‍👩‍👧\n" * 20,
    "The cat sat on the mat; the dog's hat didn't.\r\n\t tabs  and   spaces  \n" * 20,
]
KINDS = ("bytes", "characters", "bpe")


@pytest.fixture(scope="module")
def tokenizers():
    return {kind: train_tokenizer(kind, CORPUS, 400) for kind in KINDS}


def test_the_byte_alphabet_is_the_librarys():
    from tokenizers import pre_tokenizers

    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str
    assert sorted(BYTE_CHARACTERS) == sorted(pre_tokenizers.ByteLevel.alphabet())
    for text in ("é", "\n", " ", "\u07ff", "日", "👩"):
        assert cut(text)[0][0] == "".join(BYTE_CHARACTERS[value] for value in text.encode())


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_of_what_it_was_trained_on(tokenizers, kind):
    for text in CORPUS:
        ids = tokenizers[kind].encode(text)
        assert ids.dtype == np.int64 and tokenizers[kind].decode(ids) == text
        assert b"".join(tokenizers[kind].token_bytes(number) for number in ids) == text.encode()
    assert tokenizers[kind].decode([]) == "" and len(tokenizers[kind].encode("")) == 0


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_every_short_text_survives(tokenizers, kind):
    """Texts of two of the first 256 characters, and single characters from everywhere."""
    tokenizer = tokenizers[kind]
    short = [chr(a) + chr(b) for a in range(256) for b in range(256)]
    single = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    for texts in (short[:: 1 if kind == "bpe" else 16], single[::37]):
        for text, ids in zip(texts, tokenizer.encode_documents(Document("", t) for t in texts), strict=True):
            assert tokenizer.decode_bytes(ids) == text.encode()


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
@settings(max_examples=500)
@given(text=st.text(max_size=200))
def test_any_text_survives(tokenizers, kind, text):
    assert tokenizers[kind].decode(tokenizers[kind].encode(text)) == text


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_every_byte_string_can_be_spelled(tokenizers, kind):
    """All byte strings of length up to 2, valid UTF-8 or not, are the bytes of some ids."""
    single = {tokenizers[kind].token_bytes(number): number for number in range(256)}
    assert len(single) == 256
    for length in (1, 2):
        for values in itertools.product(range(256), repeat=length):
            data = bytes(values)
            assert tokenizers[kind].decode_bytes([single[data[i : i + 1]] for i in range(length)]) == data


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_text_never_becomes_the_end_token(tokenizers, kind):
    tokenizer = tokenizers[kind]
    text = "before<|end|>after"
    ids = tokenizer.encode(text)
    assert tokenizer.end not in ids and tokenizer.decode(ids) == text
    assert tokenizer.end == tokenizer.vocab - 1 and tokenizer.token_bytes(tokenizer.end) == b""
    assert tokenizer.token_name(tokenizer.end) == "<|end|>"


def test_bytes_are_their_own_ids():
    tokenizer = byte_tokenizer()
    assert tokenizer.vocab == 257 and tokenizer.end == 256
    assert tokenizer.encode("aé").tolist() == list("aé".encode())
    # the quick way and the library's agree
    assert tokenizer.encode(CORPUS[0]).tolist() == tokenizer.inner.encode(CORPUS[0]).ids


def test_characters_are_sorted_and_nothing_else():
    tokenizer = train_tokenizer("characters", ["ba\nca"])
    assert (tokenizer.vocab, tokenizer.end) == (4, None)
    assert tokenizer.encode("\nabc").tolist() == [0, 1, 2, 3]
    assert tokenizer.encode(CORPUS[0][:0] + "cab\n").tolist() == tokenizer.inner.encode("cab\n").ids


@pytest.mark.parametrize("stranger", ["Z", "\U0010ffff", "\0", "é"])
def test_an_unknown_character_is_named_with_its_place(stranger):
    tokenizer = train_tokenizer("characters", ["abc"])
    with pytest.raises(LimitError) as caught:
        tokenizer.encode(f"ab{stranger}c")
    assert repr(stranger) in str(caught.value) and "position 2" in str(caught.value)
    assert str(caught.value).endswith("train with bytes or bpe"), "these can be typed"
    with pytest.raises(LimitError, match=r"poem\.txt: character"):
        list(tokenizer.encode_documents([Document("poem.txt", stranger)]))


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_is_the_same(tokenizers, kind, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizers[kind].to_json(), encoding="utf-8")
    loaded = load_tokenizer(path)
    for attribute in ("kind", "vocab", "end", "digest"):
        assert getattr(loaded, attribute) == getattr(tokenizers[kind], attribute)
    assert loaded.encode(CORPUS[1]).tolist() == tokenizers[kind].encode(CORPUS[1]).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_the_same_file_the_same_way(tokenizers, kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizers[kind].to_json(), encoding="utf-8")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
    assert len(theirs) == tokenizers[kind].vocab
    for text in CORPUS:
        ids = tokenizers[kind].encode(text).tolist()
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids
        assert theirs.decode(ids, clean_up_tokenization_spaces=False) == text
    # negative control: another tokenizer does not agree
    other = subword_tokenizer(CORPUS[1:], 300)
    assert theirs(CORPUS[0], add_special_tokens=False)["input_ids"] != other.encode(CORPUS[0]).tolist()


def test_transformers_own_gpt2_file_loads(tmp_path):
    """A file we did not write: GPT-2's structure with its own end token and a truncation that must not
    bite.
    """
    record = json.loads(subword_tokenizer(CORPUS, 300).to_json())
    record["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    record["added_tokens"][0]["content"] = "<|endoftext|>"
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(record))
    tokenizer = load_tokenizer(path, end="<|endoftext|>")
    assert tokenizer.end == 299 and tokenizer.decode(tokenizer.encode(CORPUS[0])) == CORPUS[0]
    assert load_tokenizer(path).end is None


def test_byte_fallback_names_spell_bytes(tmp_path):
    from tokenizers import Tokenizer, decoders, models

    names = ["<unk>", *(f"<0x{value:02X}>" for value in range(256)), "\u2581a"]
    inner = Tokenizer(
        models.BPE({name: i for i, name in enumerate(names)}, [], unk_token="<unk>", byte_fallback=True)
    )
    inner.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    assert tokenizer.token_bytes(1 + 0xE9) == b"\xe9" and tokenizer.token_bytes(257) == b" a"


def test_a_long_text_encodes_as_if_in_one_piece(tokenizers):
    """Cutting a text for speed changes no id, wherever blanks and newlines fall around the cut."""
    tokenizer = tokenizers["bpe"]
    draw = random.Random(0)
    atoms = [
        "\n",
        "\n\n",
        " \n",
        "\n ",
        "\r\n",
        "  ",
        "\t",
        "word",
        "don't",
        "42",
        "é",
        "!?",
        " x",
        "\u3000",
        "\x85",
    ]
    for _ in range(3):
        text = "".join(draw.choices(atoms, k=PIECE_CHARACTERS))
        assert len(tokenizer._pieces(text)) > 1 and "".join(tokenizer._pieces(text)) == text
        whole = tokenizer.inner.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text).tolist() == whole
    # negative control: cut inside a word, ids differ
    halves = [*tokenizer.encode("    ret"), *tokenizer.encode("urn x")]
    assert halves != tokenizer.encode("    return x").tolist()


def test_documents_encode_as_they_would_alone(tokenizers):
    documents = [
        Document(str(number), text) for number, text in enumerate([*CORPUS, "", "x", CORPUS[0] * 50])
    ]
    for kind in KINDS:
        for document, ids in zip(documents, tokenizers[kind].encode_documents(documents), strict=True):
            assert ids.tolist() == tokenizers[kind].encode(document.text).tolist()


def test_training_is_repeatable_and_its_digest_tells_what_changed():
    assert subword_tokenizer(CORPUS, 350).digest == subword_tokenizer(list(CORPUS), 350).digest
    digests = {train_tokenizer("bpe", CORPUS, vocab).digest for vocab in (300, 301, 350)}
    digests |= {train_tokenizer("characters", texts).digest for texts in (CORPUS, CORPUS[:1])}
    assert len(digests) == 5


def test_a_vocabulary_larger_than_the_text_allows_is_as_large_as_it_can_be():
    assert subword_tokenizer(["ab"], 5_000).vocab == 258
    assert subword_tokenizer([], 5_000).vocab == 257


def test_what_cannot_be_trained():
    with pytest.raises(ConfigError, match="at least 257"):
        subword_tokenizer(CORPUS, 256)
    with pytest.raises(InputMissingError, match="at least one character"):
        train_tokenizer("characters", [""])
    with pytest.raises(ConfigError, match="tokenizer bpe: vocab is missing"):
        train_tokenizer("bpe", CORPUS)
    with pytest.raises(ConfigError, match="did you mean characters"):
        train_tokenizer("character", CORPUS)


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_surrogate_pair_is_refused_with_its_place(tokenizers, kind):
    with pytest.raises(LimitError, match="position 3"):
        tokenizers[kind].encode("cat\udc80")


def test_an_id_out_of_range_is_named(tokenizers):
    for number in (-1, 257, 10**9):
        with pytest.raises(LimitError, match="ids 0 to 256"):
            tokenizers["bytes"].decode([number])


GOOD = json.loads(byte_tokenizer().to_json())
BROKEN = {
    "empty": b"",
    "not json": b"{",
    "not utf-8": b"\xff\xfe",
    "a list": b"[]",
    "no model": b"{}",
    "deep": b"[" * 100_000,
    "model is null": json.dumps({**GOOD, "model": None}).encode(),
    "unknown model": json.dumps({**GOOD, "model": {"type": "Oracle", "vocab": {}}}).encode(),
    "same id twice": json.dumps({**GOOD, "model": {**GOOD["model"], "vocab": {"a": 0, "b": 0}}}).encode(),
    "negative id": json.dumps({**GOOD, "model": {**GOOD["model"], "vocab": {"a": -1}}}).encode(),
    "huge id": json.dumps({**GOOD, "model": {**GOOD["model"], "vocab": {"a": 2**40}}}).encode(),
    "empty vocab": json.dumps({**GOOD, "added_tokens": [], "model": {**GOOD["model"], "vocab": {}}}).encode(),
    "dangling merge": json.dumps({**GOOD, "model": {**GOOD["model"], "merges": [["zz", "yy"]]}}).encode(),
    "bad pattern": json.dumps(
        {
            **GOOD,
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "("},
                "behavior": "Isolated",
                "invert": False,
            },
        }
    ).encode(),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_by_name(tmp_path, name):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(BROKEN[name])
    with pytest.raises(FileFormatError, match=r"tokenizer\.json"):
        load_tokenizer(path)


def test_a_mutated_file_loads_or_is_refused_never_worse(tmp_path):
    path, draw = tmp_path / "tokenizer.json", random.Random(1)
    good = subword_tokenizer(CORPUS, 280).to_json().encode()
    refused = 0
    for _ in range(300):
        data = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data[: draw.randrange(len(data))] if draw.random() < 0.2 else data)
        try:
            tokenizer = load_tokenizer(path)
            tokenizer.decode(tokenizer.encode("ab c"))
        except CutawayError:
            refused += 1
    assert refused > 30


def test_a_missing_file(tmp_path):
    with pytest.raises(InputMissingError, match="no such tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.skipif(not SHAKESPEARE.exists(), reason="needs ../shared/data/tinyshakespeare, which is absent")
def test_shakespeare_has_nanogpts_65_characters_and_encodes_at_once():
    text = SHAKESPEARE.read_text(encoding="utf-8")
    tokenizer = train_tokenizer("characters", [text])
    assert tokenizer.vocab == 65 and tokenizer.end is None
    table = {character: number for number, character in enumerate(sorted(set(text)))}
    started = time.perf_counter()
    ids = tokenizer.encode(text)
    assert time.perf_counter() - started < 1
    assert ids.tolist() == [table[character] for character in text]
