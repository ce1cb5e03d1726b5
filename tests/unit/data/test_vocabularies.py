"""Vocabularies without a tokenizer.json: the same ids as transformers from the same files."""

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from cutaway import spec
from cutaway.data.chat import encode_chats
from cutaway.data.vocabularies import gguf_vocabulary, llama2c_vocabulary, read_vocabulary
from cutaway.data.vocabularies.bytelevel import LLAMA3, QWEN2
from cutaway.errors import FileFormatError, InputMissingError, LimitError
from cutaway.weights.run import check_vocabulary
from tests import real_models
from tests.unit.data import spm_files as spm
from tests.unit.data.chat_templates import CHATS
from tests.unit.data.corpus import RUNS, TEXTS, drawn

MANY = [*TEXTS, *drawn(300), *RUNS]
STORIES = Path(__file__).parents[3] / "../shared/data/models/stories260K"
OPENING = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."


def written(path: Path, **files) -> Path:
    """A folder of JSON objects and texts; the names' last underscore is a dot."""
    path.mkdir(exist_ok=True)
    for name, content in files.items():
        name = ".".join(name.rsplit("_", 1))
        (path / name).write_text(content if isinstance(content, str) else json.dumps(content), newline="")
    return path


def word_pieces(seed: int = 0) -> str:
    inner = tokenizers.BertWordPieceTokenizer(lowercase=bool(seed % 2))
    inner.train_from_iterator(TEXTS * 5, vocab_size=400, min_frequency=1, show_progress=False)
    ids = inner.get_vocab()
    return "".join(f"{name}\n" for name in sorted(ids, key=ids.get))


@pytest.fixture(scope="module")
def byte_level():
    """A vocab.json and a merges.txt that the library's trainer made."""
    inner = tokenizers.ByteLevelBPETokenizer()
    inner.train_from_iterator(TEXTS * 5, vocab_size=500, min_frequency=2, special_tokens=["<|endoftext|>"])
    model = json.loads(inner._tokenizer.to_str())["model"]
    merges = [" ".join(merge) for merge in model["merges"]]
    return model["vocab"], merges


def same(ours, theirs, texts=MANY, around: bool = True) -> None:
    """The same ids, alone and between special tokens, and the same text from them."""
    for text in texts:
        ids = ours.encode(text)
        assert ids.tolist() == theirs(text, add_special_tokens=False)["input_ids"], text
        if around:
            assert ours.enclose(ids).tolist() == theirs(text)["input_ids"]
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True), text
        pieces = [ours.token_bytes(number) for number in ids.tolist()]
        assert ours.decode_bytes(ids) == b"".join(pieces)


def without(texts, *names):
    return [text for text in texts if not any(name in text for name in names)]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_lower_case": False},
        {"do_lower_case": True, "strip_accents": False},
        {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False},
    ],
    ids=str,
)
def test_word_pieces_are_berts(settings, tmp_path):
    transformers = pytest.importorskip("transformers")
    vocabulary = word_pieces(len(settings))
    ours = read_vocabulary(written(tmp_path, vocab_txt=vocabulary, tokenizer_config_json=settings))
    theirs = transformers.BertTokenizer(vocab=str(tmp_path / "vocab.txt"), **settings)
    assert (ours.end, ours.begin, ours.pad, ours.unknown) == (
        theirs.sep_token_id,
        theirs.cls_token_id,
        theirs.pad_token_id,
        theirs.unk_token_id,
    )
    same(ours, theirs, without(MANY, "[CLS]", "[SEP]", "[MASK]", "[UNK]"))


def test_another_setting_gives_other_word_pieces(tmp_path):
    transformers = pytest.importorskip("transformers")
    written(tmp_path, vocab_txt=word_pieces(), tokenizer_config_json={"do_lower_case": False})
    ours, theirs = read_vocabulary(tmp_path), transformers.BertTokenizer(vocab=str(tmp_path / "vocab.txt"))
    with pytest.raises(AssertionError):
        same(ours, theirs)


def test_every_word_piece_is_spelled_as_the_library_spells_it(tmp_path):
    names = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        ".",
        "##.",
        "a",
        "##b",
        "'",
        "##n't",
        "n't",
        "do",
        "'s",
    ]
    names += ["##", "do not", "##do not", "! ?", " .", "'re", "'ve", "'m", ","]
    ours = read_vocabulary(written(tmp_path, vocab_txt="\n".join(names)))
    ordinary = sorted(ours.names.keys() - ours.special)
    for first in ordinary:
        for second in ordinary:
            assert ours.decode([first, second]) == ours.inner.decode([first, second])
    assert ours.decode([2, *ordinary[:4], 3]) == ours.inner.decode(ordinary[:4])


@pytest.mark.parametrize(
    "decoder",
    [
        tokenizers.decoders.Metaspace(),
        tokenizers.decoders.Metaspace(prepend_scheme="never"),
        tokenizers.decoders.WordPiece(prefix="##", cleanup=False),
        tokenizers.decoders.Sequence(
            [tokenizers.decoders.Replace("\u2581", " "), tokenizers.decoders.Fuse()]
        ),
    ],
    ids=["metaspace", "never", "words", "spaces"],
)
def test_pieces_of_a_tokenizer_json_are_spelled_as_the_library_spells_them(decoder, tmp_path):
    names = ["<unk>", "\u2581", "\u2581a", "b", "\u2581\u2581", "c\u2581", "##d", "\u2581.", "é"]
    inner = tokenizers.Tokenizer(tokenizers.models.Unigram([(name, -1.0) for name in names], 0))
    inner.decoder = decoder
    (tmp_path / "tokenizer.json").write_text(inner.to_str())
    ours = read_vocabulary(tmp_path)
    for first in range(len(names)):
        for second in range(len(names)):
            for ids in ([first], [first, second], [first, second, 3]):
                assert ours.decode(ids) == inner.decode(ids), ids


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_byte_level_pairs_are_gpt2s(prefix, newline, byte_level, tmp_path):
    transformers = pytest.importorskip("transformers")
    vocabulary, merges = byte_level
    text = newline.join(["#version: 0.2", *merges, ""])
    written(
        tmp_path,
        vocab_json=vocabulary,
        merges_txt=text,
        tokenizer_config_json={"add_prefix_space": prefix},
        added_tokens_json={"<extra>": len(vocabulary)},
        generation_config_json={"eos_token_id": [vocabulary["<|endoftext|>"], len(vocabulary)]},
    )
    ours = read_vocabulary(tmp_path)
    theirs = transformers.GPT2Tokenizer(
        vocab=vocabulary, merges=[tuple(merge.split(" ")) for merge in merges], add_prefix_space=prefix
    )
    theirs.add_tokens(["<extra>"])
    assert (ours.vocab, ours.end) == (len(theirs), theirs.eos_token_id)
    assert ours.ends == {ours.end, len(vocabulary)}
    same(ours, theirs, without([*MANY, "an <extra> one"], "<|endoftext|>"))
    assert not set(ours.encode("<|endoftext|>").tolist()) & ours.special


def test_qwens_pairs_are_cut_as_qwen_cuts(byte_level, tmp_path):
    transformers = pytest.importorskip("transformers")
    vocabulary, merges = byte_level
    written(
        tmp_path,
        vocab_json=vocabulary,
        merges_txt="\n".join(merges),
        tokenizer_config_json={"tokenizer_class": "Qwen2Tokenizer"},
    )
    theirs = transformers.Qwen2Tokenizer(vocab=vocabulary, merges=[tuple(pair.split(" ")) for pair in merges])
    same(read_vocabulary(tmp_path), theirs, without(MANY, "<|endoftext|>"))


def test_the_patterns_are_transformers():
    found = pytest.importorskip("transformers.integrations.gguf.gguf_tokenizer_mapping")
    assert found.GGUF_PRE_TOKENIZER_SPLITS["llama-bpe"] == LLAMA3
    assert found.GGUF_PRE_TOKENIZER_SPLITS["qwen2"] == QWEN2


def gguf_of(model: str, names, **others) -> dict:
    return {
        f"tokenizer.ggml.{key}": value
        for key, value in {"model": model, "tokens": list(names), **others}.items()
    }


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "qwen2", "smollm"])
def test_byte_level_pairs_of_gguf_are_transformers(pre, byte_level):
    found = pytest.importorskip("transformers.integrations.gguf.gguf_tokenizer_mapping")
    transformers = pytest.importorskip("transformers")
    vocabulary, merges = byte_level
    names = [*sorted(vocabulary, key=vocabulary.get), "<|im_end|>", "<tool>"]
    kinds = [3 if name.startswith("<|") else 1 for name in names[:-1]] + [4]
    metadata = gguf_of(
        "gpt2", names, merges=merges, token_type=kinds, pre=pre, bos_token_id=0, eos_token_id=len(names) - 2
    )
    metadata["tokenizer.ggml.token_type"] = np.array(kinds, np.int32)  # as our reader has them
    ours = gguf_vocabulary(metadata)
    inner, _ = found.convert_gguf_tokenizer(
        "llama",
        {
            "tokenizer_type": "gpt2",
            "tokens": names,
            "merges": merges,
            "token_type": kinds,
            "pre_tokenizer_type": pre,
        },
    )
    inner.model.ignore_merges = pre == "llama-bpe"  # as Llama 3's own tokenizer.json and llama.cpp have it
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=inner)
    texts = without([*MANY, "a <tool> b"], "<|endoftext|>", "<|im_end|>")
    if pre == "smollm":  # transformers does not know it: digits one by one, as llama.cpp has it
        texts = [text for text in texts if not any(letter.isnumeric() for letter in text)]
    same(ours, theirs, texts, around=False)
    assert ours.end == len(names) - 2 and not set(ours.encode("<|im_end|>").tolist()) & ours.special


def test_smollm_reads_digits_one_by_one(byte_level):
    vocabulary, merges = byte_level
    ours = gguf_vocabulary(
        gguf_of("gpt2", sorted(vocabulary, key=vocabulary.get), merges=merges, pre="smollm")
    )
    assert [ours.token_name(number) for number in ours.encode(" 123")] == [" ", "1", "2", "3"]


def test_llama3_keeps_a_word_that_is_a_token_and_begins_its_texts():
    names = ["a", "b", "c", "ab", "abc", "<s>"]  # no merges lead to abc
    for pre, ids, front in (("llama-bpe", [4], [5]), ("gpt-2", [3, 2], [])):
        told = gguf_of("gpt2", names, merges=["a b"], pre=pre, bos_token_id=5)
        found = gguf_vocabulary(told)
        assert found.encode("abc").tolist() == ids
        assert found.enclose(found.encode("abc")).tolist() == [*front, *ids]
        said = gguf_vocabulary({**told, "tokenizer.ggml.add_bos_token": False})
        assert said.enclose(found.encode("abc")).tolist() == ids


def test_how_text_is_cut_is_not_guessed():
    told = gguf_of("gpt2", ["a", "b", "ab"], merges=["a b"])
    assert gguf_vocabulary({**told, "general.architecture": "gpt2"}).encode("ab").tolist() == [2]
    for pre in ({}, {"tokenizer.ggml.pre": "default"}):
        with pytest.raises(FileFormatError, match=r"pre does not say how text is cut, nor does 'llama'"):
            gguf_vocabulary({**told, **pre, "general.architecture": "llama"})


def test_pieces_of_gguf_are_those_of_the_model_file(tmp_path):
    pieces = spm.bpe_pieces(TEXTS)
    (tmp_path / "tokenizer.model").write_bytes(spm.model(pieces, spm.BPE, {35: 1}, {4: 0}))
    names, scores, kinds = zip(*pieces, strict=True)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    ours = gguf_vocabulary(gguf_of("llama", names, scores=list(scores), token_type=list(kinds), **ids))
    file = read_vocabulary(tmp_path)
    assert ours.digest == file.digest and (ours.begin, ours.end) == (1, 2)
    for text in MANY[:100]:
        assert ours.enclose(ours.encode(text)).tolist() == file.enclose(file.encode(text)).tolist()
    bare = gguf_vocabulary(
        gguf_of("llama", names, scores=list(scores), token_type=list(kinds), **ids, add_bos_token=False)
    )
    assert bare.enclose(bare.encode("a")).tolist() == bare.encode("a").tolist()


def test_t5s_pieces_of_gguf():
    pieces = spm.unigram_pieces(without(TEXTS, "<"))
    names, scores, kinds = zip(*pieces, strict=True)
    rules = spm.charsmap({"\n": " ", "ﬁ": "fi"})
    others = {"precompiled_charsmap": list(rules), "remove_extra_whitespaces": True}
    ids = {"eos_token_id": 1, "unknown_token_id": 2, "padding_token_id": 0}
    ours = gguf_vocabulary(gguf_of("t5", names, scores=list(scores), token_type=list(kinds), **others, **ids))
    assert ours.encode("ﬁne\n\nday ").tolist() == spm.viterbi(pieces, spm.ready("fine day"))
    assert ours.start == ours.pad == 0 and ours.enclose(ours.encode("a")).tolist()[-1] == 1


def stories():
    from cutaway.weights.llama2c import read_vocabulary as read

    found = read(STORIES / "tok512.bin", 512)
    return llama2c_vocabulary(found.pieces, found.scores)


@pytest.mark.skipif(not STORIES.is_dir(), reason="../shared/data has no stories260K")
def test_the_vocabulary_of_stories260k():
    ours = stories()
    assert (ours.vocab, ours.begin, ours.end, ours.unknown) == (512, 1, 2, 0)
    ids = ours.encode(OPENING)
    assert ours.decode(ids) == OPENING and ours.enclose(ids)[0] == 1
    # the first tokens that llama2.c's own code writes for the empty prompt
    assert [ours.token_name(number) for number in ids[:5]] == [" Once", " upon", " a", " time", ","]
    for text in MANY:
        if "\u2581" not in text:
            assert ours.decode(ours.encode(text)) == text


def test_a_tokenizer_json_comes_first(byte_level, tmp_path):
    from cutaway.data.tokenizer import byte_tokenizer

    written(tmp_path, vocab_txt=word_pieces(), tokenizer_json=byte_tokenizer().to_json())
    assert read_vocabulary(tmp_path).vocab == 257
    written(tmp_path, tokenizer_config_json={"eos_token": {"content": "<|end|>"}})
    assert read_vocabulary(tmp_path).end == 256


def test_a_folder_without_a_vocabulary(tmp_path):
    with pytest.raises(InputMissingError, match="no vocabulary"):
        read_vocabulary(tmp_path)
    with pytest.raises(InputMissingError, match="no such folder"):
        read_vocabulary(tmp_path / "nowhere")


def test_more_ids_than_rows_are_refused_with_both_numbers(tmp_path):
    ours = read_vocabulary(written(tmp_path, vocab_txt=word_pieces()))
    plan = spec.gpt2(layers=1, width=8, heads=1, vocab=ours.vocab)
    check_vocabulary(tmp_path, ours, plan)
    with pytest.raises(FileFormatError, match=f"{ours.vocab} ids, but the model knows {ours.vocab - 1}"):
        check_vocabulary(tmp_path, ours, spec.gpt2(layers=1, width=8, heads=1, vocab=ours.vocab - 1))


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_half_a_surrogate_pair_is_refused(text, byte_level, tmp_path):
    folders = [
        written(tmp_path / "w", vocab_txt=word_pieces()),
        written(tmp_path / "b", vocab_json=byte_level[0], merges_txt="\n".join(byte_level[1])),
    ]
    for path in folders:
        with pytest.raises(LimitError, match="half a surrogate pair"):
            read_vocabulary(path).encode(text)


def test_minilm_reads_as_transformers_reads_it(tmp_path):
    transformers = pytest.importorskip("transformers")
    model = real_models.minilm()
    theirs = transformers.AutoTokenizer.from_pretrained(model, model_max_length=10**9)
    theirs.backend_tokenizer.no_truncation()
    theirs.backend_tokenizer.no_padding()
    for name in ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    both = [read_vocabulary(model), read_vocabulary(tmp_path)]
    assert both[0].vocab == both[1].vocab == 30522
    for ours in both:
        same(ours, theirs, without(MANY, "[CLS]", "[SEP]", "[MASK]", "[UNK]"))


@pytest.mark.slow
def test_smollm2_reads_as_transformers_reads_its_gguf():
    """Equal as it is on texts without digits, and on all with digits one by one, as SmolLM2 learned them and
    llama.cpp reads them: transformers passes over the file's `pre = smollm`.
    """
    transformers = pytest.importorskip("transformers")
    gguf = pytest.importorskip("gguf")
    path = real_models.smollm2()
    reader = gguf.GGUFReader(path)
    ours = gguf_vocabulary({key: field.contents() for key, field in reader.fields.items()}, path)
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    assert ours.vocab == len(theirs) == 49152
    assert (ours.begin, ours.end, ours.pad) == (1, 2, 2)
    control = [name for number, name in ours.names.items() if number in ours.special]
    texts = without(MANY, *control)
    same(ours, theirs, [text for text in texts if not any(letter.isnumeric() for letter in text)])
    pre = tokenizers.pre_tokenizers
    digits, rest = pre.Digits(individual_digits=True), theirs.backend_tokenizer.pre_tokenizer
    theirs.backend_tokenizer.pre_tokenizer = pre.Sequence([digits, rest])
    same(ours, theirs, texts)
    assert np.isin(ours.encode("a<|im_end|>b"), list(ours.special)).sum() == 0
    # and its own chat template, with the digits as they are
    template = reader.fields["tokenizer.chat_template"].contents()
    for prompt in (False, True):
        chats = encode_chats(ours, template, list(CHATS.values()), prompt, mask=True)
        for chat, messages in zip(chats, CHATS.values(), strict=True):
            text = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
            assert chat.text == text and chat.assistant is not None
            assert chat.ids.tolist() == theirs(text, add_special_tokens=False)["input_ids"]
            said = [ours.decode([number]) for number in chat.ids[chat.assistant]]
            assert "".join(said) == "".join(m["content"] for m in messages if m["role"] == "assistant")
