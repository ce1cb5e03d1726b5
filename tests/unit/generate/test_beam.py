"""Beam search beside an exhaustive one, beside greedy decoding, and alone beside in a batch."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from cutaway import spec, study
from cutaway.errors import ConfigError, ContextLengthError, CutawayError, LimitError
from cutaway.generate import Decoding, Sampling
from cutaway.generate import beam as beams
from cutaway.generate.beam import candidates, translate_ids
from cutaway.models import Paired, build
from cutaway.models.pair import Pair
from cutaway.tap import Edit, Recorder, off
from tests.unit import tiny as every
from tests.unit.generate.tiny import PAIRS, VOCAB, filled

BEGIN, END = 1, 2
SHORT = [[5, 6, 7], [9], [10, 3, 4, 5, 6], [4, 4]]
RECURRENT = ["bahdanau", "luong_both"]
SOURCES = [[5, 6, 7, 8], [9], [10, 11, 4, 5, 6, 7, 8], [4, 4], [3, 20, 21]]


def pair(name="t5", seed=0, vocab=VOCAB):
    plan = PAIRS[name]() if name in PAIRS else every.plan(name)
    model = filled(replace(plan, source=replace(plan.source, vocab=vocab)), seed)
    assert isinstance(model, Pair)
    return model


def search(model, sources, **asked):
    return translate_ids(model, sources, **({"begin": BEGIN, "end": END, "max_tokens": 8} | asked))


def probability(model, source, target, tap=off):
    """The log-probability of a whole target, by one pass over all of it."""
    with torch.no_grad():
        read_BL = torch.tensor([[BEGIN, *target[:-1]]])
        logits_BLV = model(torch.tensor([source]), read_BL, tap=tap)
    return float(logits_BLV[0].log_softmax(-1)[range(len(target)), target].sum())


def every_target(vocab, longest):
    others = [token for token in range(vocab) if token != END]
    for length in range(longest):
        yield from ((*prefix, END) for prefix in product(others, repeat=length))


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize(
    ("name", "seed"),
    [
        *(("vaswani", seed) for seed in range(3)),
        *((name, 0) for name in ("quick_pair", *RECURRENT, "gehring")),
    ],
)
def test_a_beam_that_holds_every_prefix_is_exhaustive(name, penalty, seed):
    model, source, longest = pair(name, seed, vocab=4), [3, 0, 3], 4
    scores = {
        target: probability(model, source, target) / len(target) ** penalty
        for target in every_target(4, longest)
    }
    order = sorted(scores, key=scores.__getitem__, reverse=True)
    for best in (1, 5):
        found = search(model, [source], beam=150, best=best, length_penalty=penalty, max_tokens=longest)[0]
        assert [one.tokens for one in found] == order[:best]
        assert [one.score for one in found] == pytest.approx([scores[target] for target in order[:best]])
        assert all(one.ended for one in found)


def test_a_narrow_beam_is_not_exhaustive():
    """The negative control: over some models the best target is missed by a beam of one."""
    missed = 0
    for seed in range(8):
        model, source = pair("vaswani", seed, vocab=4), [3, 0, 3]
        best = max(every_target(4, 4), key=lambda target: probability(model, source, target))
        missed += search(model, [source], beam=1, length_penalty=0.0, max_tokens=4)[0][0].tokens != best
    assert missed


@pytest.mark.parametrize("name", every.PAIRS)
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_one_prefix_is_greedy_decoding(name, penalty):
    model = every.tiny(name)
    decoding = Decoding(model, SHORT, max_tokens=8, sampling=Sampling(temperature=0), begin=BEGIN)
    steps = [decoding.advance() for _ in range(8)]
    for row, found in enumerate(search(model, SHORT, beam=1, length_penalty=penalty)):
        tokens = [tokens[row] for tokens, _ in steps]
        tokens = tokens[: tokens.index(END) + 1] if END in tokens else tokens
        assert list(found[0].tokens) == tokens
        assert found[0].ended == (tokens[-1] == END)
        total = sum(row_probabilities[row] for _, row_probabilities in steps[: len(tokens)])
        assert found[0].log_probability == pytest.approx(total)


@pytest.mark.parametrize("name", every.PAIRS)
def test_a_batch_and_its_padding_change_rounding_only(name):
    model = every.tiny(name)
    together = search(model, SHORT, beam=4, best=4)
    alone = [search(model, [source], beam=4, best=4)[0] for source in SHORT]
    for found in (alone, search(model, SHORT, beam=4, best=4, batch_tokens=6)):
        for ours, theirs in zip(found, together, strict=True):
            assert [one.tokens for one in ours] == [one.tokens for one in theirs]
            assert [one.score for one in ours] == pytest.approx([one.score for one in theirs], abs=1e-10)


def test_a_memory_is_kept_once_for_all_prefixes_of_its_source():
    """Rows in any order give the logits of their own sources, and keys move only when sources do."""
    model = pair("vaswani")
    source_BM = torch.tensor([[5, 6, 7], [8, 9, 0], [4, 0, 0]])
    real_BM = torch.tensor([[True] * 3, [True, True, False], [True, False, False]])
    with torch.no_grad():
        state = model.start(source_BM, padding_BM=real_BM)
        model.step(torch.full((3, 1), BEGIN), state)
        written, owners = [[], [], []], [0, 1, 2]
        for rows, moves in (
            ([0, 0, 1, 1, 2, 2], False),  # each source has two prefixes
            ([1, 0, 2, 2, 5, 4], False),  # in another order
            ([0, 1, 4, 5], True),  # the second source is done
            ([0, 2, 3], True),  # unequal numbers of prefixes
            ([2, 0, 1], True),
        ):
            before = state.cross[0].known()[0].data_ptr()
            state.select(torch.tensor(rows))
            assert (state.cross[0].known()[0].data_ptr() != before) == moves
            written, owners = [[*written[row]] for row in rows], [owners[row] for row in rows]
            tokens = torch.tensor([3 + row for row in range(len(rows))])
            logits = model.step(tokens[:, None], state)[:, -1]
            for row, owner in enumerate(owners):
                written[row].append(3 + row)
                length = int(real_BM[owner].sum())
                read = torch.tensor([[BEGIN, *written[row]]])
                whole = model(source_BM[owner : owner + 1, :length], read)[0, -1]
                assert torch.allclose(logits[row], whole, atol=1e-10)


def test_the_stopping_bound_loses_nothing():
    """Asked for all its best, a search runs until that many ended; the first is that of a shorter one."""
    for seed in range(6):
        model = pair("t5", seed)
        for penalty in (0.0, 1.0, 3.0):
            everything = search(model, SOURCES, beam=4, best=4, length_penalty=penalty, max_tokens=12)
            first = search(model, SOURCES, beam=4, best=1, length_penalty=penalty, max_tokens=12)
            assert [found[0].tokens for found in first] == [found[0].tokens for found in everything]


def test_the_stopping_bound_saves_steps(monkeypatch):
    model = pair("t5", 1)
    model.head.bias = torch.nn.Parameter(torch.zeros(VOCAB, dtype=torch.float64))
    with torch.no_grad():
        model.head.bias[END] = 30.0
    counts = []
    step = model.step
    monkeypatch.setattr(model, "step", lambda *given: counts.append(1) or step(*given))
    assert search(model, SOURCES, beam=4, length_penalty=0.0)[0][0].tokens == (END,)
    assert len(counts) == 1


@pytest.mark.parametrize("name", ["t5", "quick_pair", *RECURRENT, "gehring"])
def test_the_score_is_what_the_whole_target_has(name):
    model = pair(name)
    for penalty in (0.0, 1.0):
        for source, found in zip(
            SOURCES, search(model, SOURCES, best=5, length_penalty=penalty), strict=True
        ):
            order = [(one.ended, one.score) for one in found]
            assert order == sorted(order, reverse=True)
            for one in found:
                total = probability(model, source, one.tokens)
                assert one.log_probability == pytest.approx(total)
                assert one.score == pytest.approx(total / len(one.tokens) ** penalty)
                assert one.ended == (one.tokens[-1] == END)


def test_what_a_limit_cuts_off_stands_behind_what_ended():
    model = pair("t5", 3)
    found = search(model, SOURCES, best=5, max_tokens=2)
    for hypotheses in found:
        ended = [one.ended for one in hypotheses]
        assert ended == sorted(ended, reverse=True)
        assert all(len(one.tokens) == 2 for one in hypotheses if not one.ended)
    limits = [1, 2, 3, 4, 5]
    for limit, source, one in zip(limits, SOURCES, search(model, SOURCES, max_tokens=limits), strict=True):
        assert len(one[0].tokens) <= limit
        assert one[0].tokens == search(model, [source], max_tokens=limit)[0][0].tokens


def test_forbidden_tokens_and_those_beyond_the_vocabulary_are_never_written():
    model = pair("vaswani", 2)
    usual = {token for found in search(model, SOURCES, best=5) for one in found for token in one.tokens}
    forbidden = sorted(usual - {END})[:4]
    found = search(model, SOURCES, best=5, forbidden=forbidden, vocab=20)
    assert not {token for each in found for one in each for token in one.tokens} & {*forbidden, 20, 21, 22}


def test_equal_candidates_come_in_the_order_of_prefix_and_token():
    model = build(replace(PAIRS["t5"](), init=spec.Init(std=0.0, embedding=0.0))).eval()
    assert isinstance(model, Paired)
    found = search(model, [[5]], beam=3, best=3, length_penalty=0.0, max_tokens=3)
    assert found[0][0].tokens == (END,)
    tokens = [one.tokens for one in search(model, [[5]], beam=3, best=3, end=22, max_tokens=2)[0]]
    assert tokens == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize("vocab", [1, 2, 63, 64, 65, 200])
def test_candidates_are_the_best_of_all_sums(vocab):
    generator = torch.Generator().manual_seed(vocab)
    coarse = torch.randint(-3, 0, (3, 4, vocab), generator=generator).float()
    total = torch.randint(-2, 0, (3, 4), generator=generator).double()
    total[1, 2] = float("-inf")
    value, place = candidates(coarse, total, 6)
    sums = (coarse + total[..., None]).flatten(1)
    wanted, where = sums.sort(descending=True, stable=True)
    count = min(6, sums.size(1))
    assert value[:, :count].tolist() == wanted[:, :count].tolist()
    finite = wanted[:, :count].isfinite()
    assert torch.from_numpy(place[:, :count])[finite].tolist() == where[:, :count][finite].tolist()
    assert (value[:, count:] == float("-inf")).all()


def test_a_beam_wider_than_the_vocabulary():
    found = search(pair("vaswani", 1, vocab=4), [[3], [3, 3]], beam=50, best=50, max_tokens=3)
    assert all(len({one.tokens for one in hypotheses}) == len(hypotheses) for hypotheses in found)


def test_what_cannot_be_is_refused_by_name():
    model = pair("t5")
    with pytest.raises(LimitError, match="source 1 is empty"):
        search(model, [[5], []])
    with pytest.raises(LimitError, match="source 1: token 23"):
        search(model, [[5], [23]])
    with pytest.raises(LimitError, match="best 3"):
        search(model, SOURCES, beam=2, best=3)
    with pytest.raises(LimitError, match="length_penalty -1"):
        search(model, SOURCES, length_penalty=-1)
    with pytest.raises(ConfigError, match="cannot be forbidden"):
        search(model, SOURCES, forbidden=[END])
    with pytest.raises(ConfigError, match="training mode"):
        search(model.train(), SOURCES)
    assert search(model.eval(), []) == []


def test_a_source_beyond_learned_positions_is_named():
    plan = PAIRS["vaswani"]()
    model = filled(replace(plan, source=replace(plan.source, position=spec.Learned(6))))
    assert isinstance(model, Paired)
    assert search(model, [[5] * 6], max_tokens=5)
    with pytest.raises(LimitError, match="source 2: 7 tokens, but the model has positions for 6"):
        search(model, [[5], [6], [5] * 7], max_tokens=5)
    with pytest.raises(ContextLengthError):
        search(model, [[5]], max_tokens=6)


def test_numbers_that_are_none_are_refused():
    model = pair()
    with torch.no_grad():
        model.decoder.final_norm.weight[0] = float("nan")
    with pytest.raises(CutawayError, match="not finite after 0 tokens"):
        search(model, SOURCES)


def test_long_sources_come_first_and_fit_the_budget():
    lengths = [3, 9, 1, 9, 4]
    batches = beams.batched(lengths, 12, 100)
    assert batches == [[1], [3], [4, 0, 2]]
    assert beams.batched(lengths, 1000, 2) == [[1, 3], [4, 0], [2]]


class Unseen(Edit):
    """By hand: at the second place of the target these heads see nothing."""

    def __init__(self, heads):
        self.heads = heads

    def __call__(self, value, scene):
        value = value.clone()
        value[:, self.heads, 1:2] = 0.0
        return value


@pytest.mark.parametrize("beam", [1, 5])
@pytest.mark.parametrize(
    ("name", "sites", "heads"),
    [
        ("t5", "decoder.blocks.{}.cross.pattern", [0, 2]),
        ("luong_both", "decoder.look.pattern", [0]),
    ],
)
def test_an_edit_of_what_is_seen_of_a_source_holds_for_every_prefix(name, sites, heads, beam):
    model = pair(name, seed=1)
    by_hand = {sites.format(depth): Unseen(heads) for depth in range(2)}
    with study.edit(model, {sites.format("*"): study.ablate(positions=[1], heads=heads)}):
        edited = search(model, SHORT, beam=beam, best=beam)
    moved = 0
    for source, found in zip(SHORT, edited, strict=True):
        for one in found:
            wanted = probability(model, source, one.tokens, Recorder(changes=by_hand))
            assert one.log_probability == pytest.approx(wanted)
            moved += abs(wanted - probability(model, source, one.tokens)) > 1e-3
    assert moved >= len(SHORT) // 2, "without the edit other sums"
    for source, found in zip(SHORT, search(model, SHORT, beam=beam), strict=True):
        assert found[0].log_probability == pytest.approx(probability(model, source, found[0].tokens))
