"""What a decoder of a pair begins with is one rule: for generating, the report and the command line."""

from types import SimpleNamespace

import pytest

from cutaway import spec, study
from cutaway.app.study import Lens
from cutaway.data.begin import begin_token, source_ids
from cutaway.data.pairing import joint_tokenizer
from cutaway.data.record import END, PAD, START
from cutaway.data.tasks import START_ID, StringTask
from cutaway.data.tokenizer import byte_tokenizer, character_tokenizer
from cutaway.errors import LimitError
from cutaway.generate.complete import encode
from cutaway.generate.translate import Translator
from cutaway.models import build
from cutaway.study.specimen import read
from tests.unit.generate.tiny import filled


def firsts(tokenizer):
    """How each of the three finds the first token of a target."""
    model = filled(spec.t5(1, 16, 4, 24, max(31, tokenizer.vocab)))
    session = SimpleNamespace(model=model, tokenizer=tokenizer, length=None)
    return (
        lambda: encode(model, tokenizer, ["Rab"], 3)[1],
        lambda: read(session, ("Rab", "ba"))[0].ids[0],
        lambda: Lens(text="Rab", model="", target="ba").scored(session)[0],
    )


def test_all_begin_with_the_start_token():
    tokenizer = StringTask(0).tokenizer()
    assert {int(first()) for first in firsts(tokenizer)} == {begin_token(tokenizer)} == {START_ID}


@pytest.mark.parametrize("tokenizer", [byte_tokenizer(), character_tokenizer("Rab")], ids=["end", "no end"])
def test_all_refuse_a_tokenizer_without_one(tokenizer):
    for first in firsts(tokenizer):
        with pytest.raises(LimitError, match=r"this tokenizer has no <\|start\|>"):
            first()


def test_a_source_ends_as_the_tokenizer_s_template_says():
    joint = joint_tokenizer(["ein haus", "a house"], 300)
    plain = character_tokenizer("abc", special=(PAD, START, END))
    assert source_ids(joint, "ein haus").tolist() == [*joint.encode("ein haus").tolist(), joint.end]
    assert source_ids(plain, "abc").tolist() == plain.encode("abc").tolist()
    model = build(spec.quick_pair(layers=1, width=16, heads=2, vocab=joint.vocab)).eval()
    thing = SimpleNamespace(model=model, tokenizer=joint)
    seen = study.trace(thing, ("ein haus", [joint.start]), keep="decoder.blocks.0.cross.pattern")
    assert seen["decoder.blocks.0.cross.pattern"].size(-1) == len(source_ids(joint, "ein haus"))
    encoded, begin = encode(model, joint, ["ein haus"], 5)
    assert encoded == [source_ids(joint, "ein haus").tolist()] and begin == joint.start
    assert Translator(model, joint).encode("ein haus") == encoded[0]
