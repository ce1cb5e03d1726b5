"""Learning from conversations: which tokens are scored, that padding counts nowhere, resumed to the byte."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers
import torch
import torch.nn.functional as F

from cutaway import load, spec
from cutaway.data.chat import encode_chat
from cutaway.data.spelling import BYTE_CHARACTERS
from cutaway.data.tokenizer import Tokenizer, byte_level
from cutaway.errors import ConfigError, LimitError
from cutaway.models import build
from cutaway.session import Session
from cutaway.train.conversing import Conversing, as_batch
from cutaway.train.loss import IGNORE, logits_of
from cutaway.train.signals import RunInterruptedError
from cutaway.train.tasks import make_task
from tests.unit.data.chat_templates import CHATML, LLAMA3
from tests.unit.train.tiny import RUN, Stop, remains, train

pytest.importorskip("jinja2")
CONTROLS = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<s>"]
TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3}


def talker() -> Tokenizer:
    """Bytes, and the control tokens of the templates."""
    inner = byte_level(dict(zip(BYTE_CHARACTERS, range(256), strict=True)), use_regex=True)
    inner.add_special_tokens(CONTROLS)
    return Tokenizer(tokenizers.Tokenizer.from_str(inner.to_str()), "<|im_end|>", begin="<s>")


def said(number: int) -> list[dict[str, str]]:
    """A conversation of one or two turns."""
    turns = [
        {"role": "user", "content": f"What is {number} <|im_end|>?"},
        {"role": "assistant", "content": f"{number * number}, é."},
    ]
    if number % 3 == 0:
        turns = [{"role": "system", "content": "Be kind."}, *turns]
    return turns + (turns[-2:] if number % 2 else [])


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    path.write_text("".join(json.dumps({"messages": said(i)}) + "\n" for i in range(60)))
    return path


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that talks, as a Hugging Face folder."""
    plan = spec.small(layers=2, width=16, heads=2, vocab=256 + len(CONTROLS))
    session = Session(build(plan, 5).eval(), talker(), 128, template=CHATML)
    return session.save_pretrained(tmp_path_factory.mktemp("talker") / "model")


def conversing(chats: Path, template: str = "chatml", **run) -> Conversing:
    plan = spec.Conversations((str(chats),), 0.2)
    made = make_task(plan, replace(RUN, **({"length": 200} | run)), talker(), TEMPLATES[template])
    assert isinstance(made, Conversing)
    return made


def ids(template: str, messages: list[dict[str, str]], prompt: bool) -> list[int]:
    return encode_chat(talker(), TEMPLATES[template], messages, prompt).ids.tolist()


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_each_answer_adds_to_its_question_is_scored_and_nothing_else(template, chats):
    """By brute force: the conversation is rendered anew up to each answer, and up to its end."""
    task = conversing(chats, template)
    end = talker().inner.token_to_id("<|im_end|>" if template == "chatml" else "<|eot_id|>")
    for messages, row in list(zip(task.messages.train, task.train, strict=True))[:8]:
        whole = ids(template, list(messages), False)
        wanted = [IGNORE] * len(whole)
        for place, message in enumerate(messages):
            if message["role"] == "assistant":
                before = ids(template, list(messages[:place]), True)
                after = ids(template, list(messages[: place + 1]), False)
                pairs = enumerate(zip(before, whole, strict=False))
                first = next((at for at, (one, other) in pairs if one != other), len(before))
                assert not talker().decode(before[first:]).strip() and whole[: len(after)] == after
                last = max(at for at in range(first, len(after)) if after[at] == end)
                wanted[first : last + 1] = whole[first : last + 1]
        assert row.read_L.tolist() == whole[:-1] and row.asked_L.tolist() == wanted[1:]
        assert end in row.asked_L


def test_padding_counts_nowhere(chats):
    task = conversing(chats)
    model = build(spec.small(layers=2, width=16, heads=2, vocab=256 + len(CONTROLS)), 5).double().eval()
    rows = sorted(task.train, key=lambda row: len(row.read_L))
    some = [rows[0], rows[-1]]
    together = as_batch(some, 150)
    assert together.inputs[0].shape == (2, 150) and not together.paddings[0][0, len(some[0].read_L) :].any()
    total = together.scored
    alone = sum(task.loss(model, as_batch([row]), total) for row in some)
    assert torch.allclose(task.loss(model, together, total), alone, rtol=0, atol=1e-10)
    filler = together.inputs[0].clone()
    filler[~together.paddings[0]] = 77
    other = together._replace(inputs=(filler,))
    assert torch.allclose(task.loss(model, other, total), alone, rtol=0, atol=1e-10)
    task.loss(model, together, total).backward()
    grads = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    sum(task.loss(model, as_batch([row]), total) for row in some).backward()
    assert all(torch.allclose(grads[n], p.grad, rtol=0, atol=1e-10) for n, p in model.named_parameters())


def test_the_loss_is_the_mean_over_the_answers(chats):
    task = conversing(chats)
    model = build(spec.small(layers=1, width=16, heads=2, vocab=256 + len(CONTROLS)), 5).double().eval()
    (batch,) = conversing(chats, accumulate=1).parts(0)
    logits = logits_of(model, batch)
    wanted = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE)
    assert task.loss(model, batch, batch.scored).item() == pytest.approx(wanted.item(), abs=1e-10)
    everything = batch._replace(targets=torch.where(batch.targets == IGNORE, 5, batch.targets))
    assert abs(task.loss(model, everything, everything.scored).item() - wanted.item()) > 1e-4


def test_what_is_shown_says_something(chats):
    made = conversing(chats)
    shown, some = made.shown(), made.messages.validation
    nothing = ({"role": "user", "content": ""}, {"role": "assistant", "content": " "})
    made.messages = replace(made.messages, validation=(nothing, *some))
    assert made.shown() == shown
    made.messages = replace(made.messages, validation=(nothing,))
    assert made.shown() is None


def test_each_is_seen_once_an_epoch(chats):
    task = conversing(chats)
    count = len(task.train)
    seen = [number for step in range(count) for number in task.example_ids(step)]
    assert sorted(seen[:count]) == list(range(count)) and seen[:count] != seen[count : 2 * count]


def test_what_is_cut_is_told_and_without_an_answer_left_out(chats):
    short = conversing(chats, length=60)
    assert all(len(row.read_L) <= 60 for row in short.train) and short.lost and short.cut
    assert [line.split(" training")[0] for line in short.notices[:1]] == [
        f"{short.cut} of {len(short.messages.train)}"
    ]
    assert "left out" in short.notices[1] and conversing(chats).notices == ()
    with pytest.raises(LimitError, match=r"run\.length: 5 tokens hold no answer of any"):
        conversing(chats, length=5)


def test_only_a_model_that_writes_and_talks_can_learn_it(chats):
    plan = spec.Conversations((str(chats),))
    for words in ((None, None), (talker(), None), (None, CHATML)):
        with pytest.raises(ConfigError, match="came without a chat template"):
            make_task(plan, RUN, *words)
    with pytest.raises(ConfigError, match="data Conversations trains a Single whose stack sees the past"):
        conversing(chats).fitted(spec.bert(1, 16, 2, vocab=300, length=200))


def test_a_run_talks_afterwards_and_is_resumed_to_the_last_byte(chats, start, tmp_path):
    plan = spec.Recipe(
        "talks",
        None,
        spec.Conversations((str(chats),), 0.2),
        replace(RUN, steps=4, length=200, evaluate=2, sample=2),
        str(start),
        adapter=spec.LoRA(rank=2),
    )
    whole = train(plan, tmp_path / "whole")
    with pytest.raises(RunInterruptedError):
        train(plan, tmp_path / "run", say=Stop(2))
    assert remains(train(plan, tmp_path / "run", resume=True)) == remains(whole)
    made, base = load(whole), load(start)
    assert made.template == CHATML and made.tokenizer.ends == base.tokenizer.ends
    assert (made.tokenizer.end, made.tokenizer.begin) == (base.tokenizer.end, base.tokenizer.begin)
    assert isinstance("".join(made.chat(said(1)[:1], 4, temperature=0.0)), str)
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    last = {key: value for line in lines for key, value in line.items()}
    assert last["perplexity"] > 1 and "assistant: " in last["sample"]
    again = load(made.save_pretrained(tmp_path / "out"))
    assert again.template == CHATML and again.tokenizer.digest == made.tokenizer.digest
