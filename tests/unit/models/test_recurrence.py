"""The recurrent language model: decoding, padding in front, the loss of a text, training."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from cutaway import models, spec, study
from cutaway.data.tokenizer import train_tokenizer
from cutaway.errors import ConfigError
from cutaway.generate import Sampling, complete
from cutaway.session import Session
from cutaway.train.flops import training_flops
from cutaway.train.language import Language
from cutaway.train.loop import Training
from cutaway.train.optim import Optimizers
from cutaway.train.precision import Working
from tests.unit.tiny import VOCAB, plan, tiny

PRESETS = ["lstm", "gru"]
TEXT = "to be or not to be, that is the question. " * 30


def tokens(rows: int = 3, length: int = 7) -> torch.Tensor:
    return torch.randint(0, VOCAB, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("preset", PRESETS)
def test_steps_equal_the_whole_however_cut(preset):
    model, tokens_BL = tiny(preset), tokens()
    whole = model(tokens_BL)
    for cuts in ((0, 7), (0, 1, 2, 3, 4, 5, 6, 7), (0, 3, 4, 7)):
        state = model.start()
        state.reserve(7)
        parts = [model.step(tokens_BL[:, a:b], state) for a, b in pairwise(cuts)]
        assert (torch.cat(parts, 1) - whole).abs().max() < 1e-10
    assert (model(tokens_BL.flip(1)) - whole).abs().max() > 1e-3


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-10), (torch.float32, 2e-6)])
@pytest.mark.parametrize("preset", PRESETS)
def test_padding_in_front_leaves_the_state_untouched(preset, dtype, most):
    model, tokens_BL, starts = tiny(preset).to(dtype), tokens(), (0, 5, 2)
    whole_BL = torch.arange(7)[None] >= torch.tensor(starts)[:, None]
    padded = model(tokens_BL, padding_BL=whole_BL)
    for cuts in ((0, 7), (0, 3, 4, 7), (0, 1, 2, 3, 4, 5, 6, 7)):
        state = model.start(torch.tensor(starts))
        made = torch.cat([model.step(tokens_BL[:, a:b], state) for a, b in pairwise(cuts)], 1)
        for row, start in enumerate(starts):
            alone = model(tokens_BL[row : row + 1, start:])[0]
            assert (made[row, start:] - alone).abs().max() < most
            assert (padded[row, start:] - alone).abs().max() < most
    unpadded = model(tokens_BL)  # the control: what stands in front, read as if it were real
    assert (unpadded - padded)[1, 5:].abs().max() > 1e-3


@pytest.mark.parametrize("preset", PRESETS)
def test_select_permutes_rows_with_their_padding(preset):
    model, tokens_BL, picked = tiny(preset), tokens(), torch.tensor([2, 1])
    whole = model.step(tokens_BL, model.start(torch.tensor([0, 5, 2])))
    state = model.start(torch.tensor([0, 5, 2]))
    model.step(tokens_BL[:, :4], state)
    state.select(picked)
    rest = model.step(tokens_BL[picked, 4:], state)
    assert (rest[0] - whole[2, 4:]).abs().max() < 1e-10
    assert (rest[1, 1:] - whole[1, 5:]).abs().max() < 1e-10
    assert (rest[1, 1:] - whole[2, 5:]).abs().max() > 1e-3
    with pytest.raises(ConfigError, match="cannot go back from position 7 to 2"):
        state.truncate(2)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_past_is_seen_and_nothing_else_by_the_gradient(preset):
    model = tiny(preset)
    with study.edit(model, {"input.out": study.scale(1.0)}):
        trace = study.trace(model, tokens())
    assert list(trace) == ["input.token", "input.out", "layers.0.out", "layers.1.out", "logits"]
    assert torch.equal(trace["logits"], model(tokens()))
    for place in (0, 3, 6):
        changed = tokens()
        changed[:, place] = (changed[:, place] + 1) % VOCAB
        moved = (model(changed) - model(tokens())).abs().amax((0, 2)) > 0
        assert moved.tolist() == [other >= place for other in range(7)]


@pytest.mark.parametrize("preset", PRESETS)
def test_an_edit_of_a_layer_reaches_the_head_and_steps_agree(preset):
    model, tokens_BL = tiny(preset), tokens()
    with study.edit(model, {"layers.1.out": study.ablate(positions=[2])}):
        whole, state = model(tokens_BL), model.start()
        steps = [model.step(tokens_BL[:, a:b], state) for a, b in ((0, 2), (2, 5), (5, 7))]
    assert (torch.cat(steps, 1) - whole).abs().max() < 1e-10
    plain = model(tokens_BL)
    changed = (whole - plain).abs().amax((0, 2)) > 1e-9
    assert changed.tolist() == [place == 2 for place in range(7)]
    assert (whole[:, 2] - model.head.bias).abs().max() < 1e-12


@pytest.fixture(scope="module")
def letters():
    return train_tokenizer("characters", [TEXT], 64)


@pytest.mark.parametrize("preset", PRESETS)
def test_training_lowers_the_loss_of_a_text_and_the_session_says_so(preset, letters, tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    run = spec.Run(steps=30, batch=8, length=16, optimizer=spec.AdamW(1e-2))
    source = (str(tmp_path / "text.txt"),)
    task = Language(spec.Text(source, tokenizer="characters", split="tail"), run)
    of = task.fitted(spec.PRESETS[preset](layers=1, width=32))
    assert of.input.vocab == task.vocab
    model = models.build(of)
    session = Session(model.eval(), task.tokenizer, 16)
    before = session.loss(TEXT).nats
    assert before == pytest.approx(math.log(task.vocab), rel=0.2)
    training = Training(Working(model.train(), torch.float32), task, Optimizers(model, run.optimizer), run)
    for _ in range(run.steps):
        training.advance()
    model.eval()
    found = session.loss(TEXT, per_token=True)
    assert found.nats < 0.7 * before
    ids = torch.from_numpy(np.asarray(task.tokenizer.encode(TEXT)).astype(np.int64))[:17]
    logits = model(ids[None, :-1])[0]
    want = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")
    assert torch.allclose(found.nats_E[:16], want.detach(), atol=1e-5)
    assert not torch.allclose(found.nats_E[:16], want.detach().flip(0), atol=1e-5)
    assert set(task.judge(model, lambda: None)) >= {"validation", "bits_per_byte"}


@pytest.mark.parametrize("preset", PRESETS)
def test_generating_together_is_generating_alone(preset, letters):
    model = models.build(plan(preset, vocab=letters.vocab)).eval()
    prompts, greedy = ["to be", "n", "question. to"], Sampling(temperature=0)
    together = complete(model, letters, prompts, max_tokens=8, sampling=greedy)
    alone = [complete(model, letters, [one], max_tokens=8, sampling=greedy)[0] for one in prompts]
    assert [one.tokens for one in together] == [one.tokens for one in alone]
    ids = letters.encode("to be").tolist()
    for token in together[0].tokens:
        assert int(model(torch.tensor([ids]))[0, -1].argmax()) == token
        ids.append(token)
    assert together[0].tokens != together[2].tokens


@pytest.mark.parametrize("preset", PRESETS)
def test_every_matrix_costs_six_operations_a_token(preset):
    model = models.build(plan(preset))
    assert training_flops(model, 9) == 6 * sum(p.numel() for p in model.parameters() if p.dim() > 1)
    assert training_flops(model, 9) == training_flops(model, 90)


def test_a_head_over_classes_is_refused():
    of = spec.Recurrence(8, spec.Tokens(5), 1, spec.Classify(3))
    with pytest.raises(ConfigError, match="Recurrence: the head is NextToken"):
        models.build(of)
