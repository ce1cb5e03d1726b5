"""Logits with a cache equal logits without, however the tokens are cut, padded, forgotten or picked."""

from itertools import accumulate

import pytest
import torch

from cutaway import study
from cutaway.nn.cache import Cache
from tests.unit.generate.tiny import PAIRS, SINGLES, filled, tokens

LENGTH = 8
NEAR = dict(rtol=0, atol=1e-10)
MODELS = {name: filled(plan()) for name, plan in (SINGLES | PAIRS).items()}


def started(name: str, rows: int = 2):
    """A state in front of the first token, and the function that computes all logits at once."""
    model = MODELS[name]
    if name in SINGLES:
        return model.start(), model
    source_BM = tokens(rows, 5, seed=9)
    real_BM = torch.arange(5) < torch.tensor([5, 3, 4, 2][:rows])[:, None]
    state = model.start(source_BM, padding_BM=real_BM)
    return state, lambda target_BL: model(source_BM, target_BL, source_padding_BM=real_BM)


def stepped(model, state, tokens_BL, sizes):
    parts = tokens_BL.split(sizes, dim=1)
    return torch.cat([model.step(part, state) for part in parts], dim=1)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def chunkings(length: int, done: tuple[int, ...] = ()):
    """Every way to cut `length` tokens into parts: yields each beginning of one, longest branch first."""
    for size in range(1, length - sum(done) + 1):
        yield (*done, size)
        yield from chunkings(length, (*done, size))


def test_chunkings_are_all_compositions_of_the_length():
    whole = [sizes for sizes in chunkings(LENGTH) if sum(sizes) == LENGTH]
    assert len(whole) == len(set(whole)) == 2 ** (LENGTH - 1)


@pytest.mark.parametrize("name", MODELS)
def test_every_chunking_gives_the_logits_of_the_full_pass(name):
    """Chunkings share their beginnings: going back to where two part is `truncate`."""
    tokens_BL = tokens(2, LENGTH)
    state, whole = started(name)
    expected_BLV = whole(tokens_BL)
    for sizes in chunkings(LENGTH):
        end, size = sum(sizes), sizes[-1]
        state.truncate(end - size)
        logits_BLV = MODELS[name].step(tokens_BL[:, end - size : end], state)
        message = f"chunks {sizes}"
        torch.testing.assert_close(
            logits_BLV, expected_BLV[:, end - size : end], **NEAR, msg=lambda m, s=message: f"{s}: {m}"
        )


@pytest.mark.parametrize("name", MODELS)
def test_float32_agrees_within_rounding(name):
    model, tokens_BL = filled((SINGLES | PAIRS)[name](), dtype=torch.float32), tokens(2, LENGTH)
    if name in SINGLES:
        state, expected_BLV = model.start(), model(tokens_BL)
    else:
        source_BM = tokens(2, 5, seed=9)
        state, expected_BLV = model.start(source_BM), model(source_BM, tokens_BL)
    torch.testing.assert_close(
        stepped(model, state, tokens_BL, [3, 1, 4]), expected_BLV, rtol=1e-5, atol=1e-5
    )


def test_a_cache_that_forgets_is_noticed(monkeypatch):
    """The control: each model reads what it has cached."""
    known = Cache.known
    monkeypatch.setattr(Cache, "known", lambda self: tuple(x.roll(1, 2) * 1.01 for x in known(self)))
    tokens_BL = tokens(2, LENGTH)
    for name in MODELS:
        state, whole = started(name)
        logits_BLV = stepped(MODELS[name], state, tokens_BL, [1] * LENGTH)
        assert (logits_BLV - whole(tokens_BL)).abs().max() > 1e-3, name


@pytest.mark.parametrize("name", SINGLES)
@pytest.mark.parametrize("sizes", [[8], [1] * 8, [3, 5], [6, 1, 1]], ids=str)
def test_padding_in_front_changes_nothing(name, sizes):
    """Rows of 8, 5, 1 and 7 tokens, with nonsense where the padding is."""
    model, start_B = MODELS[name], torch.tensor([0, 3, 7, 1])
    tokens_BL = tokens(4, LENGTH)
    logits_BLV = stepped(model, model.start(start_B), tokens_BL, sizes)
    for row, start in enumerate(start_B.tolist()):
        alone_BLV = model(tokens_BL[row : row + 1, start:])
        torch.testing.assert_close(logits_BLV[row : row + 1, start:], alone_BLV, **NEAR)
    unpadded_BLV = model(tokens_BL)
    assert (logits_BLV[1, 3:] - unpadded_BLV[1, 3:]).abs().max() > 1e-3  # the padding would have mattered


@pytest.mark.parametrize("name", SINGLES)
def test_reading_gives_the_last_row_and_edits_of_logits_keep_their_place(name):
    model, tokens_BL = MODELS[name], tokens(2, LENGTH)
    expected_BV = model(tokens_BL)[:, -1]

    def read(parts: list[int]) -> torch.Tensor:
        state = model.start()
        *before, last = tokens_BL.split(parts, dim=1)
        for part_BL in before:
            model.features(part_BL, state=state)
        return model.read(last, state)[:, 0]

    torch.testing.assert_close(read([LENGTH]), expected_BV, **NEAR)
    torch.testing.assert_close(read([3, 5]), expected_BV, **NEAR)
    for position, change in [(LENGTH - 1, 1.0), (LENGTH - 2, 0.0)]:
        with study.edit(model, {"logits": study.add(1.0, positions=[position])}):
            torch.testing.assert_close(read([3, 5]), expected_BV + change, **NEAR)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("back", [0, 1, 5, 7])
def test_after_truncating_the_forgotten_tokens_leave_no_trace(name, back):
    right_BL, wrong_BL = tokens(2, LENGTH), tokens(2, LENGTH, seed=2)
    state, whole = started(name)
    MODELS[name].step(torch.cat([right_BL[:, :back], wrong_BL[:, back:]], dim=1), state)
    state.truncate(back)
    logits_BLV = stepped(MODELS[name], state, right_BL[:, back:], [1] * (LENGTH - back))
    torch.testing.assert_close(logits_BLV, whole(right_BL)[:, back:], **NEAR)


@pytest.mark.parametrize("name", MODELS)
def test_selected_rows_go_on_as_themselves(name):
    model, tokens_BL = MODELS[name], tokens(4, LENGTH)
    rows = torch.tensor([2, 0, 2])
    state, whole = started(name, rows=4)
    stepped(model, state, tokens_BL[:, :5], [4, 1])
    state.select(rows)
    logits_BLV = stepped(model, state, tokens_BL[rows, 5:], [1, 2])
    torch.testing.assert_close(logits_BLV, whole(tokens_BL)[rows, 5:], **NEAR)


@pytest.mark.parametrize("name", SINGLES)
def test_selected_rows_keep_their_padding(name):
    model, tokens_BL, start_B = MODELS[name], tokens(3, LENGTH), torch.tensor([4, 0, 2])
    state, rows = model.start(start_B), torch.tensor([2, 0])
    stepped(model, state, tokens_BL[:, :5], [5])
    state.select(rows)
    logits_BLV = stepped(model, state, tokens_BL[rows, 5:], [1, 1, 1])
    for place, row in enumerate(rows.tolist()):
        alone_LV = model(tokens_BL[row : row + 1, int(start_B[row]) :])[0, -3:]
        torch.testing.assert_close(logits_BLV[place], alone_LV, **NEAR)


def test_any_mixture_of_steps_and_steps_back():
    model, generator = MODELS["alternating"], torch.Generator().manual_seed(3)
    state, said_BL = model.start(), tokens(2, 0)
    for size, back in [(3, 1), (2, 0), (4, 3), (1, 1), (5, 2), (1, 0)]:
        new_BL = torch.randint(23, (2, size), generator=generator)
        said_BL = torch.cat([said_BL, new_BL], dim=1)
        logits_BLV = model.step(new_BL, state)
        torch.testing.assert_close(logits_BLV, model(said_BL)[:, -size:], **NEAR)
        said_BL = said_BL[:, : said_BL.size(1) - back]
        state.truncate(said_BL.size(1))


@pytest.mark.parametrize("reserved", [0, 1, 70, 200])
def test_buffers_grow_without_losing_anything(reserved):
    cache, generator = Cache(), torch.Generator().manual_seed(0)
    cache.reserved = reserved
    pieces = [torch.randn(2, 3, size, 4, generator=generator) for size in (1, 60, 3, 1, 200, 90)]
    ends = list(accumulate(piece.size(2) for piece in pieces))
    for number, piece_BGLK in enumerate(pieces):
        k_BGMK, v_BGMK = cache.extend(piece_BGLK, -piece_BGLK)
        expected_BGMK = torch.cat(pieces[: number + 1], dim=2)
        assert cache.length == ends[number]
        assert torch.equal(k_BGMK, expected_BGMK) and torch.equal(v_BGMK, -expected_BGMK)


def test_reserved_room_is_not_copied():
    state, model, tokens_BL = MODELS["small"].start(), MODELS["small"], tokens(1, LENGTH)
    state.reserve(100)
    model.step(tokens_BL, state)
    before = state.layers[0].known()[0].data_ptr()
    for _ in range(90):
        model.step(tokens_BL[:, :1], state)
    assert state.layers[0].known()[0].data_ptr() == before
