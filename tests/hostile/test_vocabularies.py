"""Vocabularies of strangers: damaged, lying and mutated ones are refused with our errors, at once."""

import json
import os
import random
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cutaway.data.charsmap import check_charsmap
from cutaway.data.vocabularies import gguf_vocabulary, llama2c_vocabulary, read_vocabulary
from cutaway.data.vocabularies.sentencepiece import parse_sentencepiece
from cutaway.errors import CutawayError, FileFormatError
from tests.unit.data import spm_files as spm

ROUNDS = int(os.environ.get("CUTAWAY_FUZZ", "3000"))
HEAD = [("<unk>", 0.0, spm.UNKNOWN), ("<s>", 0.0, spm.CONTROL), ("</s>", 0.0, spm.CONTROL)]
PLAIN = [
    *HEAD,
    *((letter, -1.0 - place, spm.NORMAL) for place, letter in enumerate("\u2581abc")),
    ("ab", -0.5, 1),
]
GOOD = spm.model(PLAIN, spm.BPE, {}, {4: 0})
RULED = spm.model(PLAIN, spm.UNIGRAM, {}, {2: spm.charsmap({"x": "ab", "é": "a"})})

MODELS = {
    "empty": b"",
    "no pieces": spm.model([]),
    "cut in a piece": GOOD[:20],
    "cut in a number": GOOD[:-1],
    "text": b"this is no model",
    "field 0": b"\x00\x00",
    "group": b"\x0b\x0c",
    "length of 2^62": spm.varint(10) + spm.varint(2**62) + b"a",
    "number of 11 bytes": b"\x08" + b"\xff" * 11,
    "two unknown": spm.model([*PLAIN, ("u", 0.0, spm.UNKNOWN)]),
    "no unknown": spm.model(PLAIN[1:]),
    "piece twice": spm.model([*PLAIN, ("ab", -3.0, 1)]),
    "empty piece": spm.model([*PLAIN, ("", 0.0, 1)]),
    "piece not UTF-8": spm.model([*PLAIN, (b"\xff", 0.0, 1)]),
    "half a surrogate pair": spm.model([*PLAIN, (b"\xed\xa0\x80", 0.0, 1)]),
    "score not a number": spm.model([*PLAIN, ("d", float("nan"), 1)]),
    "score infinite": spm.model([*PLAIN, ("d", float("inf"), 1)]),
    "unknown type": spm.model([*PLAIN, ("d", 0.0, 9)]),
    "type 0": GOOD + spm.field(1, spm.field(1, b"d") + spm.field(3, 0)),
    "long piece": spm.model([*PLAIN, ("d" * 5_000, 0.0, 1)]),
    "long piece of pairs": spm.model([*PLAIN, ("d" * 300, 0.0, 1)], spm.BPE),
    "bytes missing": spm.model(PLAIN, spm.BPE, {35: 1}),
    "no byte": spm.model([*PLAIN, ("<0xZZ>", 0.0, spm.BYTE)], spm.BPE),
    "words": spm.model(PLAIN, 3),
    "characters": spm.model(PLAIN, 4),
    "algorithm 77": spm.model(PLAIN, 77),
    "spaces behind": spm.model(PLAIN, spm.UNIGRAM, {24: 1}),
    "spaces not written": spm.model(PLAIN, spm.UNIGRAM, {}, {5: 0}),
    "text changed when decoded": GOOD + spm.field(5, spm.field(2, b"x")),
    "rules cut off": spm.model(PLAIN, spm.UNIGRAM, {}, {2: spm.charsmap({"x": "y"})[:300]}),
    "rules of nothing": spm.model(PLAIN, spm.UNIGRAM, {}, {2: b"\x00"}),
    "piece is a number": spm.field(1, 7),
    "settings are a number": GOOD + spm.field(2, 7),
    "rules are a number": GOOD + spm.field(3, spm.field(2, 7)),
}


@pytest.mark.parametrize("name", MODELS)
def test_wrong_models_are_refused(name, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(MODELS[name])
    with pytest.raises(FileFormatError, match=r"tokenizer\.model"):
        read_vocabulary(tmp_path)


@pytest.mark.parametrize("good", [GOOD, RULED], ids=["pairs", "rules"])
def test_mutated_models_are_read_or_refused(good, tmp_path):
    """What is read encodes as well: the library, which trusts its input, does not fall over."""
    path, draw = tmp_path / "tokenizer.model", random.Random(0)
    begin, outcomes = time.process_time(), [0, 0]
    for _ in range(ROUNDS // 2):
        data = mutated(bytearray(good), draw)
        try:
            parse_sentencepiece(path, data)
            path.write_bytes(data)
            read_vocabulary(tmp_path).encode("ab x é <s>\u2581\n")
            outcomes[0] += 1
        except CutawayError:
            outcomes[1] += 1
    assert min(outcomes) > ROUNDS // 100, outcomes
    assert time.process_time() - begin < ROUNDS / 100


def test_mutated_rules_lead_nowhere(tmp_path):
    """Rules that pass the check are applied without a fall, whatever the bytes are."""
    from tokenizers import normalizers

    good, draw = spm.charsmap({"x": "ab", "é": "a", "日本": "c"}), random.Random(1)
    size = int.from_bytes(good[:4], "little")
    used = [place for place in range(len(good)) if good[place]]
    passed = 0
    for _ in range(ROUNDS):
        data = bytearray(good)
        for _ in range(draw.randrange(1, 4)):
            data[draw.choice(used)] = draw.randrange(256)
        try:
            check_charsmap(tmp_path, bytes(data))
        except FileFormatError:
            continue
        passed += 1
        normalizers.Precompiled(bytes(data)).normalize_str("axé日本日 \x7f\u00ff\U0010ffff")
    assert ROUNDS // 50 < passed < ROUNDS
    wide = np.zeros(2**18, "<u4")
    wide[0] = 1 << 10
    wide[1:256] = np.arange(1, 256) | 512 | 1 << 10
    data = (4 * len(wide)).to_bytes(4, "little") + wide.tobytes() + b"\0"
    begin = time.process_time()
    check_charsmap(tmp_path, data)
    assert time.process_time() - begin < 2 and size


def test_rules_in_a_tokenizer_json_are_checked(tmp_path):
    import base64

    from tokenizers import Tokenizer, models, normalizers

    inner = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0))
    inner.normalizer = normalizers.Sequence([normalizers.Precompiled(spm.charsmap({"x": "a"}))])
    record = json.loads(inner.to_str())
    step = record["normalizer"]["normalizers"][0]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(record))
    assert read_vocabulary(tmp_path).encode("x").tolist() == [1]
    data = bytearray(base64.b64decode(step["precompiled_charsmap"]))
    data[4:8] = (2**21 << 10).to_bytes(4, "little")
    step["precompiled_charsmap"] = base64.b64encode(data).decode()
    path.write_text(json.dumps(record))
    with pytest.raises(FileFormatError, match=r"tokenizer\.json: precompiled_charsmap"):
        read_vocabulary(tmp_path)


def test_a_tokenizer_json_is_read_strictly_and_within_bounds(tmp_path):
    path = tmp_path / "tokenizer.json"
    for text, rule in (
        ('{"model": {}, "normalizer": null, "normalizer": {}}', "key 'normalizer' stands twice"),
        ('{"x": [' + "[]," * 2**23 + "[]]}", "more than 8,388,608 values"),
        ("[" * 10**6, "nested too deeply"),
        ('{"model": ' + "[" * 10**5 + "]" * 10**5 + "}", "nested too deeply"),
    ):
        path.write_text(text)
        with pytest.raises(FileFormatError, match=rule):
            read_vocabulary(tmp_path)


def test_an_endless_list_of_metadata_is_not_unpacked():
    told = gguf(precompiled_charsmap=np.zeros(2**24 + 1, np.uint8))
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match="more than 16,777,216 values"):
            gguf_vocabulary(told)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def mutated(data: bytearray, draw: random.Random) -> bytes:
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(data))
        match draw.randrange(4):
            case 0:
                data[at] = draw.randrange(256)
            case 1:
                data[at] ^= 1 << draw.randrange(8)
            case 2:
                del data[at : at + draw.randrange(1, 4)]
            case _:
                data[at:at] = data[at : at + draw.randrange(1, 9)]
    return bytes(data)


LETTERS = {letter: at for at, letter in enumerate("abcd")} | {"ab": 4, "<|endoftext|>": 5}
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
FOLDERS = {
    "vocab no JSON": {"vocab.json": "{", "merges.txt": ""},
    "vocab a list": {"vocab.json": "[]", "merges.txt": ""},
    "vocab empty": {"vocab.json": "{}", "merges.txt": ""},
    "vocab deep": {"vocab.json": "[" * 100_000, "merges.txt": ""},
    "key twice": {"vocab.json": '{"a": 0, "a": 1}', "merges.txt": ""},
    "id twice": {"vocab.json": {"a": 0, "b": 0}, "merges.txt": ""},
    "id no number": {"vocab.json": {"a": "0"}, "merges.txt": ""},
    "id true": {"vocab.json": {"a": True}, "merges.txt": ""},
    "id negative": {"vocab.json": {"a": -1}, "merges.txt": ""},
    "id huge": {"vocab.json": {"a": 2**40}, "merges.txt": ""},
    "surrogate": {"vocab.json": '{"\\ud800": 0}', "merges.txt": ""},
    "merge of one": {"vocab.json": LETTERS, "merges.txt": "ab"},
    "merge of three": {"vocab.json": LETTERS, "merges.txt": "a b c"},
    "merge dangling": {"vocab.json": LETTERS, "merges.txt": "x y"},
    "merge to nothing": {"vocab.json": LETTERS, "merges.txt": "c d"},
    "merge of itself": {"vocab.json": LETTERS, "merges.txt": "ab "},
    "merge twice": {"vocab.json": LETTERS, "merges.txt": "a b\na b"},
    "merges not UTF-8": {"vocab.json": LETTERS, "merges.txt": b"\xff\xfe"},
    "vocab missing": {"merges.txt": "a b"},
    "added past the end": {"vocab.json": LETTERS, "merges.txt": "", "added_tokens.json": {"x": 99}},
    "added in the place of another": {"vocab.json": LETTERS, "merges.txt": "", "added_tokens.json": {"x": 2}},
    "added no id": {"vocab.json": LETTERS, "merges.txt": "", "added_tokens.json": {"x": None}},
    "added into a gap": {
        "vocab.json": LETTERS | {"z": 9},
        "merges.txt": "",
        "added_tokens.json": {"x": 7, "y": 9},
    },
    "end past the end": {
        "vocab.json": LETTERS,
        "merges.txt": "",
        "generation_config.json": {"eos_token_id": 6},
    },
    "end no id": {"vocab.json": LETTERS, "merges.txt": "", "generation_config.json": {"eos_token_id": "x"}},
    "end a list of lists": {"vocab.json": LETTERS, "merges.txt": "", "config.json": {"eos_token_id": [[1]]}},
    "role no token": {"vocab.json": LETTERS, "merges.txt": "", "tokenizer_config.json": {"eos_token": 3}},
    "role empty": {"vocab.json": LETTERS, "merges.txt": "", "tokenizer_config.json": {"eos_token": ""}},
    "prefix no bool": {
        "vocab.json": LETTERS,
        "merges.txt": "",
        "tokenizer_config.json": {"add_prefix_space": 1},
    },
    "added no table": {
        "vocab.json": LETTERS,
        "merges.txt": "",
        "tokenizer_config.json": {"added_tokens_decoder": {"6": 1}},
    },
    "words empty": {"vocab.txt": ""},
    "words twice": {"vocab.txt": "\n".join([*BERT, "a"])},
    "words without unknown": {"vocab.txt": "[PAD]\n[CLS]\n[SEP]"},
    "words without borders": {"vocab.txt": "[UNK]\na"},
    "words not UTF-8": {"vocab.txt": b"\xff"},
    "word of 5,000": {"vocab.txt": "\n".join([*BERT, "b" * 5_000])},
    "lower no bool": {"vocab.txt": "\n".join(BERT), "tokenizer_config.json": {"do_lower_case": "yes"}},
    "unknown elsewhere": {"vocab.txt": "\n".join(BERT), "tokenizer_config.json": {"unk_token": "<unk>"}},
    "marian without target": {"source.spm": GOOD, "vocab.json": {"<unk>": 0, "</s>": 1, "<pad>": 2}},
    "marian without unknown": {"source.spm": GOOD, "target.spm": GOOD, "vocab.json": {"</s>": 1, "<pad>": 2}},
    "tokenizer.json damaged": {"tokenizer.json": "{}"},
    "blanks without end": {
        "spiece.model": spm.model(PLAIN),
        "tokenizer_config.json": {"tokenizer_class": "T5Tokenizer", "extra_ids": 10**9},
    },
}


@pytest.mark.parametrize("name", FOLDERS)
def test_wrong_folders_are_refused(name, tmp_path):
    for file, content in FOLDERS[name].items():
        data = content if isinstance(content, bytes) else None
        text = content if isinstance(content, str) else json.dumps(content) if data is None else ""
        (tmp_path / file).write_bytes(data if data is not None else text.encode())
    with pytest.raises(CutawayError, match=r"\.(json|txt|spm|model)"):
        read_vocabulary(tmp_path)


def test_a_right_folder_is_read(tmp_path):
    """The negative control: what the cases above change is right."""
    (tmp_path / "vocab.json").write_text(json.dumps(LETTERS))
    (tmp_path / "merges.txt").write_text("a b\n")
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 5}')
    assert read_vocabulary(tmp_path).encode("abba").tolist() == [4, 1, 0]
    (tmp_path / "tokenizer.model").write_bytes(RULED)
    (tmp_path / "generation_config.json").unlink()
    assert read_vocabulary(tmp_path).encode("x").tolist() == read_vocabulary(tmp_path).encode("ab").tolist()


def gguf(**values) -> dict:
    known = {
        "model": "llama",
        "tokens": [name for name, *_ in PLAIN],
        "scores": [score for _, score, _ in PLAIN],
    }
    known |= {
        "token_type": [kind for *_, kind in PLAIN],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in {**known, **values}.items()}


def test_wrong_metadata_is_refused():
    gguf_vocabulary(gguf())
    pairs = {"model": "gpt2", "scores": None, "token_type": None, "unknown_token_id": None}
    gguf_vocabulary(gguf(**pairs, merges=["a b"]))
    wrong = [
        {},
        gguf(model=None),
        gguf(model=3),
        gguf(model="bert"),
        gguf(tokens=None),
        gguf(tokens=[]),
        gguf(tokens="abc"),
        gguf(tokens=[1, 2]),
        gguf(tokens=["a"] * 8),
        gguf(tokens=["\ud800", *"abcdefg"]),
        gguf(scores=[]),
        gguf(scores=[0.0] * 7),
        gguf(scores=[float("nan")] * 8),
        gguf(scores=["0"] * 8),
        gguf(token_type=[1]),
        gguf(token_type=[0] * 8),
        gguf(token_type=[99] * 8),
        gguf(token_type=[2] * 8),
        gguf(token_type=[1.0] * 8),
        *(
            gguf(**{key: number})
            for key in (
                "bos_token_id",
                "eos_token_id",
                "padding_token_id",
                "unknown_token_id",
                "eot_token_id",
            )
            for number in (8, -1, 2**40, "1", True, [1])
        ),
        gguf(add_bos_token=1),
        gguf(add_space_prefix="no"),
        gguf(precompiled_charsmap=[1, 2, 3]),
        gguf(precompiled_charsmap=[999]),
        gguf(**pairs, merges=["a  b"]),
        gguf(**pairs, merges=["a"]),
        gguf(**pairs, merges=["b c"]),
        gguf(**pairs, merges=["x y"]),
        gguf(**pairs, merges=[["a", "b"]]),
        gguf(**pairs, merges=["a b", "a b"]),
        gguf(**pairs, pre="unheard-of"),
        gguf(**pairs, pre=1),
    ]
    for place, metadata in enumerate(wrong):
        with pytest.raises(FileFormatError, match=r"model\.gguf"):
            gguf_vocabulary(metadata, Path("model.gguf"))
            pytest.fail(f"case {place} was read")


def test_wrong_llama2c_vocabularies_are_refused():
    names = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(b"<0x%02X>" % value for value in range(256)), b" ", b"a"]
    scores = [0.0] * len(names)
    llama2c_vocabulary(names, scores)
    wrong = [
        ([], []),
        (names[:259], scores[:259]),
        (names, scores[1:]),
        (names, [float("nan")] * len(names)),
        ([*names[:-1], b"\xff"], scores),
        ([*names[:-1], b" "], scores),
        ([*names[:-1], b""], scores),
        ([*names[:-1], b"a" * 300], scores),
        ([*names[:3], b"x", *names[4:]], scores),
    ]
    for pieces, numbers in wrong:
        with pytest.raises(FileFormatError, match=r"tokenizer\.bin"):
            llama2c_vocabulary(pieces, numbers)


def test_a_vocabulary_of_one_huge_file_is_not_read(tmp_path):
    with open(tmp_path / "vocab.txt", "wb") as file:
        file.truncate(2**32)
    with pytest.raises(FileFormatError, match="more than"):
        read_vocabulary(tmp_path)
