"""What is hidden: as often as the rules say, the same each time, and never a special token."""

from dataclasses import replace

import numpy as np
import pytest

from cutaway.data import masking
from cutaway.data.masking import MASK, Masks, Rule, mask_id, ordinary_ids, with_mask
from cutaway.data.tokenizer import byte_tokenizer, character_tokenizer, subword_tokenizer

VOCAB, END, THE_MASK = 100, 98, 99
ROWS, LENGTH, SHARE = 400, 60, 0.15


def masks(rule: Rule = "bert", seed: int = 3, share: float = SHARE) -> Masks:
    return Masks(rule, share, THE_MASK, np.arange(END), seed)


def rows(seed: int = 0) -> np.ndarray:
    """Ordinary tokens with an end among ten."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, END, (ROWS, LENGTH))
    return np.where(rng.random((ROWS, LENGTH)) < 0.1, END, tokens)


def near(hits: int, tries: int, chance: float) -> bool:
    """Within four standard deviations of a binomial."""
    return abs(hits - tries * chance) <= 4 * (tries * chance * (1 - chance)) ** 0.5


def test_literal_hides_each_token_with_the_chance_and_by_the_mask_alone():
    tokens = rows()
    read, chosen = masks("literal").hide(tokens, 7)
    ordinary = tokens != END
    assert near(int(chosen.sum()), int(ordinary.sum()), SHARE)
    assert not near(int(chosen.sum()), int(ordinary.sum()), SHARE + 0.02)
    assert (read[chosen] == THE_MASK).all() and (read[~chosen] == tokens[~chosen]).all()
    counts = chosen.sum(1)  # independent: the counts of the rows spread as a binomial's
    spread = counts.var() / (ordinary.sum(1).mean() * SHARE * (1 - SHARE))
    assert 0.7 < spread < 1.3


def test_bert_chooses_the_share_of_every_row():
    tokens = rows()
    _, chosen = masks().hide(tokens, 7)
    assert (chosen.sum(1) == np.rint(SHARE * (tokens != END).sum(1))).all()
    _, of_few = masks().hide(tokens[:, :3], 7)
    assert (of_few.sum(1) == np.minimum(1, (tokens[:, :3] != END).sum(1))).all()
    assert not masks().hide(np.full((2, 9), END), 7)[1].any()


def test_bert_puts_the_mask_eight_times_in_ten_another_token_once_and_leaves_one():
    tokens = rows()
    read, chosen = masks().hide(tokens, 7)
    total, now, before = int(chosen.sum()), read[chosen], tokens[chosen]
    assert near(int((now == THE_MASK).sum()), total, 0.8)
    same = 0.1 + 0.1 / END  # any token, and so at times the very one
    assert near(int((now == before).sum()), total, same)
    assert not near(int((now == before).sum()), total, 0.2)
    assert (read[~chosen] == tokens[~chosen]).all()
    others = now[(now != THE_MASK) & (now != before)]
    assert others.max() < END and len(set(others.tolist())) > END // 2


@pytest.mark.parametrize("rule", ["literal", "bert"])
def test_no_place_of_a_row_is_preferred(rule):
    tokens = np.zeros((ROWS * 10, LENGTH), np.int64)
    _, chosen = masks(rule).hide(tokens, 0)
    deviation = (len(tokens) * SHARE * (1 - SHARE)) ** 0.5
    assert np.abs(chosen.sum(0) - len(tokens) * SHARE).max() < 5 * deviation  # of 60 places the furthest


@pytest.mark.parametrize("rule", ["literal", "bert"])
def test_a_special_token_is_never_hidden_and_never_put_in_anothers_place(rule):
    tokens = rows()
    read, chosen = masks(rule, share=0.9).hide(tokens, 1)
    assert not chosen[tokens == END].any()
    assert (read[tokens == END] == END).all() and (read[tokens != END] != END).all()
    careless = replace(masks(rule, share=0.9), ordinary=np.arange(VOCAB))
    assert careless.hide(tokens, 1)[1][tokens == END].any(), "control"


@pytest.mark.parametrize("rule", ["literal", "bert"])
def test_the_same_each_time_and_another_for_each_seed_step_and_row(rule):
    tokens = np.tile(np.arange(LENGTH), (6, 1))
    first = masks(rule).hide(tokens, 5)
    again = masks(rule).hide(tokens, 5)
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
    part = masks(rule).hide(tokens[2:4], 5, first=2)
    assert all((one == other[2:4]).all() for one, other in zip(part, first, strict=True))
    others = (
        masks(rule, seed=4).hide(tokens, 5),
        masks(rule).hide(tokens, 6),
        masks(rule).hide(tokens, 5, 9),
    )
    assert all((other[1] != first[1]).any() for other in others)
    assert len({row.tobytes() for row in first[1]}) == 6


def test_what_is_read_is_not_written_into_the_tokens():
    tokens = rows()
    before = tokens.copy()
    masks().hide(tokens, 0)
    assert (tokens == before).all()


@pytest.mark.parametrize(
    "known",
    [byte_tokenizer(), character_tokenizer("abc d"), subword_tokenizer(["abc abc d"] * 9, 260)],
    ids=["bytes", "characters", "bpe"],
)
def test_a_tokenizer_gets_a_mask_and_is_otherwise_as_before(known):
    masked = with_mask(known)
    assert mask_id(known) is None and mask_id(masked) == known.vocab and masked.vocab == known.vocab + 1
    assert masked.kind == known.kind and masked.end == known.end
    assert masked.encode("abc d").tolist() == known.encode("abc d").tolist()
    assert mask_id(masked) not in masked.encode("ab").tolist() and masked.decode([known.vocab]) == ""
    assert with_mask(masked) is masked
    special = {masked.end, mask_id(masked)} - {None}
    assert set(ordinary_ids(masked).tolist()) == set(range(masked.vocab)) - special


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_a_mask_written_in_a_text_is_ordinary_characters(kind):
    masked = with_mask(byte_tokenizer() if kind == "bytes" else subword_tokenizer(["mask of a text"], 260))
    assert mask_id(masked) not in masked.encode(f"a {MASK}").tolist()
    assert masked.decode(masked.encode(f"a {MASK}")) == f"a {MASK}"
    assert masking.MASK == "<|mask|>"
