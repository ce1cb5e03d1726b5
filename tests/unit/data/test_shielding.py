"""The doubles of a tokenizer: as many as are needed are made, and no more are kept than one."""

from cutaway.data.shielding import Doubles, control_names
from cutaway.data.tokenizer import subword_tokenizer


def test_texts_cannot_make_doubles_pile_up():
    tokenizer = subword_tokenizer(["hello there"], 260)
    doubles = Doubles(tokenizer.record, control_names(tokenizer.record))
    seen, text = set(), "hello"
    for _ in range(5):
        double, letters = doubles.for_texts([text])
        assert double.encode(text + "".join(letters.values())).ids[-1] == tokenizer.end
        assert doubles.for_texts([text])[0] is double
        seen |= {*letters.values()}
        text += "".join(letters.values())  # the next double needs another character
    assert len(seen) == 5 and len(doubles._made) == 1
