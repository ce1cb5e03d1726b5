"""What a decoder of a pair begins with is one rule: for generating, the report and the command line."""

from types import SimpleNamespace

import pytest

from cutaway import spec
from cutaway.app.study import Lens
from cutaway.data.begin import begin_token
from cutaway.data.tasks import START_ID, StringTask
from cutaway.data.tokenizer import byte_tokenizer, character_tokenizer
from cutaway.errors import LimitError
from cutaway.generate.complete import encode
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
