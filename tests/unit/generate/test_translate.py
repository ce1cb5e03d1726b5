"""From sentences to sentences: sources end with the end token, and alignments are the attention's own."""

import gzip
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cutaway import spec
from cutaway.data.begin import source_ids
from cutaway.data.pairing import Codes, Lowering, joint_tokenizer, marked_tokenizer
from cutaway.data.tasks import StringTask
from cutaway.errors import ConfigError, LimitError
from cutaway.generate import align as aligning
from cutaway.generate.align import align, linked, look_sites
from cutaway.generate.translate import MOST_SOURCE, Translator, translate
from cutaway.models import Paired
from cutaway.session import Session
from tests.unit.generate.tiny import PAIRS, filled, with_attention

MULTI30K = Path(__file__).parents[3] / "../shared/data/multi30k/raw"
needs_multi30k = pytest.mark.skipif(
    not MULTI30K.exists(), reason="needs ../shared/data/multi30k, which is absent"
)
TASK = StringTask(0, 6, 1, 8)
TOKENIZER = TASK.tokenizer()
SENTENCES = ["<abc", "", "<f", "<aabbccdd", "  "]


def model(name="vaswani", **changes):
    plan = PAIRS[name]()
    made = filled(replace(plan, source=replace(plan.source, vocab=TASK.vocab, **changes)))
    assert isinstance(made, Paired)
    return made


def task_letter():
    return TOKENIZER.decode([min(set(range(TASK.vocab)) - TOKENIZER.special)])


@pytest.fixture
def sentences():
    return [text.replace("<", task_letter()) for text in SENTENCES]


def test_each_sentence_has_its_translation_in_place(sentences):
    pair = model()
    found = translate(pair, TOKENIZER, sentences, beam=3)
    assert [bool(one.source) for one in found] == [True, False, True, True, False]
    assert found[1].text == found[4].text == ""
    for sentence, one in zip(sentences, found, strict=True):
        if one.source:
            assert one.source == tuple(source_ids(TOKENIZER, sentence).tolist())
            assert one.text == TOKENIZER.decode(one.tokens)
            assert one.tokens == translate(pair, TOKENIZER, [sentence], beam=3)[0].tokens
            assert not set(one.tokens[: len(one.tokens) - one.ended]) & TOKENIZER.special


def test_the_others_of_the_best_are_inside_the_first(sentences):
    found = Translator(model(), TOKENIZER, beam=4, best=4)
    for one in found.translate(found.encode_all(sentences)):
        scores = [each.score for each in (one, *one.alternatives)]
        if one.source:
            assert len(scores) == 4 and scores == sorted(scores, reverse=True)


def test_without_a_limit_the_source_gives_one(sentences):
    pair = model()
    for one in translate(pair, TOKENIZER, sentences, beam=1):
        assert len(one.tokens) <= len(one.source) * 3 // 2 + 20
    short = Translator(pair, TOKENIZER, beam=1, max_tokens=3)
    assert all(len(one.tokens) <= 3 for one in short.translate(short.encode_all(sentences)))


def test_learned_positions_limit_both_sides(sentences):
    pair = model(position=spec.Learned(11))
    found = translate(pair, TOKENIZER, sentences, beam=2)
    assert all(len(one.tokens) <= 10 for one in found)
    with pytest.raises(LimitError, match="sentence 1: 12 tokens, but at most 11"):
        translate(pair, TOKENIZER, [sentences[0], task_letter() + "a" * 11])


def test_what_cannot_be_translated_is_named(sentences):
    with pytest.raises(LimitError, match=f"sentence 0: 10000 tokens, but at most {MOST_SOURCE}"):
        translate(model(), TOKENIZER, ["a" * 10_000])
    with pytest.raises(LimitError, match="sentence 1: character 'é'"):
        translate(model(), TOKENIZER, ["a", "aé"])
    with pytest.raises(ConfigError, match="needs an encoder-decoder"):
        translate(filled(with_attention()), TOKENIZER, sentences)


def reading(tokenizer, **choices):
    plan = PAIRS["vaswani"]()
    return Translator(filled(replace(plan, source=spec.Tokens(vocab=tokenizer.vocab))), tokenizer, **choices)


CUT = ["zwei män@@ ner", "ein m@@ a@@ n@@ n"]


@pytest.fixture
def codes(tmp_path):
    path = tmp_path / "codes"
    path.write_text("#version: 0.2\nz w\ne i</w>\nzw ei</w>\nm ä\nmä n\nn e\nne r</w>\ne i\nei n</w>\n")
    return path


def test_codes_cut_plain_text_for_a_model_that_reads_it_cut(codes):
    marked = marked_tokenizer(CUT)
    plain, cutting = reading(marked), reading(marked, codes=Codes(codes))
    for line in CUT:
        whole = line.replace("@@ ", "")
        assert cutting.encode(whole) == plain.encode(line) != plain.encode(whole)
    assert cutting.encode("Zwei Männer") != plain.encode(CUT[0])  # capitals are other letters
    lowering = reading(Lowering(marked.inner), codes=Codes(codes))
    assert lowering.encode("Zwei Männer") == plain.encode(CUT[0]), "lower case comes before the codes"
    session = Session(cutting.model, marked)
    (found,) = session.translations(["zwei männer"], codes=codes, max_tokens=3)
    assert list(found.source) == plain.encode(CUT[0])


def test_codes_are_refused_by_a_model_that_reads_text_as_it_is(codes):
    with pytest.raises(ConfigError, match=r"^codes: this model did not learn from text .*leave them out$"):
        Session(model(), TOKENIZER).translations(["ab"], codes=codes)


def test_a_marked_model_s_doubt_names_cutting(codes):
    marked = marked_tokenizer(CUT)
    plain, cutting = reading(marked), reading(marked, codes=Codes(codes))
    assert plain.unknown_share(plain.encode("zwei männer")) == 0.5
    assert plain.doubt(plain.encode("zwei männer")) is None
    told = plain.doubt(plain.encode("two männer"))
    assert told.startswith("100% of its tokens are unknown to the model: was it cut") and "--codes" in told
    assert cutting.doubt(cutting.encode("ein mann zwei männer")) is None
    told = cutting.doubt(cutting.encode("two pulleys"))
    assert "--codes" not in told and "tokenised" in told and "language" in told


TEXTS = ["two men in hats stand in a street", "zwei männer mit hüten stehen auf einer straße"] * 9
RUSSIAN, CHINESE = "два человека стоят на улице", "两个人站在街上。"


@pytest.fixture(scope="module")
def bytewise():
    """A translator of byte-level pairs, which have a token for any text."""
    return reading(joint_tokenizer(TEXTS, 400))


def test_of_bytes_the_characters_are_counted_that_were_never_learned(bytewise):
    def share(text):
        return bytewise.unknown_share(bytewise.encode(text))

    assert share(TEXTS[0]) == share(TEXTS[1]) == share("") == share("xylophone (quiz)") == 0
    assert share(RUSSIAN) == share(CHINESE) == share("🙂") == 1
    assert share("a ж b 两") == 0.5, "characters, not bytes or tokens; spaces do not count"
    told = bytewise.doubt(bytewise.encode(RUSSIAN))
    assert told == "100% of its characters are unknown to the model: is it of the right language?"


@pytest.mark.parametrize(
    "line",
    ["łukasz żółć und björk", "a café à côté", "“so”, sagte er — 20 € …", "a man 🙂", "ngô bảo châu is here"],
)
def test_names_accents_and_signs_raise_no_doubt(bytewise, line):
    assert bytewise.doubt(bytewise.encode(line)) is None


def test_letters_that_were_learned_raise_none():
    """Negative control: the sign is what was learned, not the script."""
    russian = reading(joint_tokenizer([RUSSIAN, *TEXTS] * 3, 400))
    assert russian.unknown_share(russian.encode(RUSSIAN)) == 0
    assert russian.doubt(russian.encode(CHINESE)) is not None


@needs_multi30k
def test_no_line_of_multi30k_raises_doubt_in_any_of_its_languages():
    """French is not noticed beside German and English: its letters are theirs."""
    read = {name: gzip.decompress((MULTI30K / f"val.{name}.gz").read_bytes()) for name in ("de", "en", "fr")}
    texts = {name: data.decode().lower().split("\n") for name, data in read.items()}
    asked = reading(joint_tokenizer([*texts["de"], *texts["en"]], 2000))
    shares = {name: max(asked.unknown_share(asked.encode(t)) for t in some) for name, some in texts.items()}
    assert max(shares.values()) < 0.2


@pytest.mark.parametrize("layer", [None, 0, 1])
def test_an_alignment_is_the_mean_over_the_heads_of_one_look(sentences, layer):
    pair, sources = model(), [[5, 6, 7, 2], [8, 2]]
    targets = [[6, 5, 2], [7, 7, 7, 7, 2]]
    found = align(pair, sources, targets, begin=1, special=frozenset((0, 1, 2)), layer=layer)
    for source, target, one in zip(sources, targets, found, strict=True):
        with torch.no_grad():
            pair_trace = _pattern(pair, source, target, 0 if layer is None else layer)
        assert torch.allclose(one.weights_LM.double(), pair_trace, atol=1e-6)
        assert torch.allclose(one.weights_LM.sum(1), torch.ones(len(target)))
        inside = pair_trace[:, :-1].argmax(1).tolist()
        assert one.links == tuple(enumerate(inside[:-1]))


def _pattern(pair, source, target, layer):
    """One layer's attention with everything written out, by an edit-free trace of one sentence."""
    from cutaway.tap import Recorder

    name = f"decoder.blocks.{layer}.cross.pattern"
    recorder = Recorder({name})
    pair(torch.tensor([source]), torch.tensor([[1, *target[:-1]]]), tap=recorder)
    return recorder.seen[name][0].mean(0)


def test_the_second_last_look_is_the_default(monkeypatch):
    assert look_sites(model()) == [f"decoder.blocks.{layer}.cross.pattern" for layer in (0, 1)]
    read = []
    patterns = aligning.patterns
    monkeypatch.setattr(aligning, "patterns", lambda *given: read.append(given[-1]) or patterns(*given))
    align(model(), [[5, 2]], [[5, 2]], begin=1)
    assert read == ["decoder.blocks.0.cross.pattern"]
    with pytest.raises(LimitError, match="layers 0 to 1"):
        align(model(), [[5, 2]], [[5, 2]], begin=1, layer=2)


def test_links_join_text_to_text_only():
    weights_LM = torch.tensor([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.0, 0.0, 1.0]])
    assert linked(weights_LM, [5, 6, 2], [7, 8, 2], frozenset({2})) == ((0, 1), (1, 0))
    assert linked(weights_LM[:, :1], [2], [7, 8, 2], frozenset({2})) == ()


def test_a_session_translates(sentences):
    session = Session(model(), TOKENIZER)
    texts = session.translate(sentences, beam=3)
    assert session.translate(sentences[0], beam=3) == texts[0]
    found = session.translations(sentences, beam=3, best=2, align=True)
    assert [one.text for one in found] == texts
    assert found[0].alignment is not None and found[1].alignment is None
    assert found[0].alignment.weights_LM.shape == (len(found[0].tokens), len(found[0].source))
