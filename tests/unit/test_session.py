"""`cutaway.load` and what a session does, held against the parts it is made of."""

import math

import pytest
import torch
import torch.nn.functional as F

import cutaway
from cutaway import spec
from cutaway.data.pairing import joint_tokenizer
from cutaway.data.tasks import StringTask
from cutaway.data.tokenizer import byte_tokenizer
from cutaway.errors import ConfigError, InputMissingError, LimitError
from cutaway.session import Session, load
from tests.unit.generate.tiny import filled
from tests.unit.tiny import tiny
from tests.unit.weights.saved import MODEL, save_checkpoint, save_run

TEXT = "Where a naïve é and 日本 meet, fourteen windows end. " * 3


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    run = save_run(tmp_path_factory.mktemp("run"), steps=())
    save_checkpoint(run, 3, dict(filled(MODEL, dtype=torch.float32).named_parameters()))
    return cutaway.load(run)


def test_a_session_knows_its_parts(session):
    assert isinstance(session, Session) and cutaway.load is load
    assert session.spec == MODEL == session.model.plan
    assert session.length == 8 and session.tokenizer.vocab == 257
    assert (session.path / "spec.json").is_file()


def test_generate_takes_one_prompt_or_several(session):
    asked = dict(max_tokens=12, temperature=0.8, top_k=20, seed=3)
    one, two = session.generate("abc", **asked), session.generate(["abc", "a longer prompt"], **asked)
    assert isinstance(one, str) and isinstance(two, list) and two[0] == one and len(two) == 2
    assert "".join(session.stream("abc", **asked)) == one
    completion = session.complete(["abc"], **asked)[0]
    assert completion.text == one and len(completion.tokens) == 12
    assert session.generate("abc", 12, temperature=0.8, top_k=20, seed=4) != one
    assert session.generate("abc", 12, temperature=0.8, top_k=20, seed=3) == one


def test_stop_ends_the_text(session):
    whole = session.generate("abc", 40, seed=1)
    stop = whole[5:7]
    assert session.generate("abc", 40, seed=1, stop=[stop]) == whole[: whole.find(stop)]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"temprature": 1.0}, "temprature: unknown; did you mean temperature"),
        ({"top_p": 2.0}, "top_p 2.0"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ""}, "stop"),
    ],
)
def test_bad_choices_are_refused_by_name(session, choices, message):
    for call in (session.generate, session.stream):
        with pytest.raises((ConfigError, LimitError), match=message):
            call("abc", **choices)


def windows_by_hand(session, text: str, length: int) -> list[float]:
    """Nats of every token after the first: each window of `length` by a pass of its own."""
    tokens, nats = session.tokenizer.encode(text).tolist(), []
    for first in range(0, len(tokens) - 1, length):
        part = torch.tensor(tokens[first : first + length + 1])
        logits_LV = session.model(part[None, :-1])[0]
        nats += F.cross_entropy(logits_LV, part[1:], reduction="none").tolist()
    return nats


@pytest.mark.parametrize("end", [2, 3, 9, 10, 17, 100, None])
def test_every_token_after_the_first_is_scored_once_in_windows_that_share_nothing(session, end):
    text = "ab" * 60 if end else TEXT
    text = text[:end]
    expected = windows_by_hand(session, text, 8)
    found = session.loss(text, per_token=True)
    count = len(text.encode()) - 1
    assert found.count == count == len(found.nats_E) == len(found.tokens_E) == len(expected)
    torch.testing.assert_close(found.nats_E, torch.tensor(expected), rtol=1e-5, atol=1e-5)
    assert found.tokens_E.tolist() == list(text.encode())[1:]
    assert found.nats == pytest.approx(sum(expected) / count, rel=1e-5)
    assert found.bits_per_byte == pytest.approx(sum(expected) / math.log(2) / count, rel=1e-5)
    if count > 9:  # the control: windows of another length score otherwise
        assert found.nats != pytest.approx(sum(windows_by_hand(session, text, 9)) / count, rel=1e-4)


def test_loss_without_tokens_is_the_same_number(session):
    found = session.loss(TEXT)
    assert found.tokens_E is None and found.nats_E is None
    assert found.nats == session.loss(TEXT, per_token=True).nats


def test_the_loss_of_too_little_text_is_refused(session):
    for text in ("", "a"):
        with pytest.raises(LimitError, match="at least 2"):
            session.loss(text)


def test_a_pair_writes_the_target_of_a_source(tmp_path):
    task = StringTask(seed=0)
    model = spec.vaswani(1, 16, 2, 24, task.vocab)
    run = save_run(tmp_path, model=model, tokenizer=task.tokenizer(), data=spec.Reversal())
    session = load(run)
    written = session.generate(["Rabc", "Sba"], max_tokens=6, temperature=0)
    assert len(written) == 2 and all(isinstance(text, str) for text in written)
    with pytest.raises(ConfigError, match="next token"):
        session.loss("Rabc")


def test_what_cannot_be_loaded_is_refused_with_what_can(tmp_path):
    with pytest.raises(InputMissingError, match="run directory"):
        load(tmp_path / "nowhere")


def test_bf16_writes_and_scores_nearly_the_same(session):
    other = load(session.path, dtype="bf16")
    assert next(other.model.parameters()).dtype == torch.bfloat16
    assert other.loss(TEXT).nats == pytest.approx(session.loss(TEXT).nats, rel=0.05)
    assert other.generate("abc", 5, temperature=0)


def test_what_reads_no_text_says_so():
    session = Session(tiny("vit"), None, labels=("cat", "dog", "owl", "fox", "elk"))
    for asked in (session.generate, session.stream, session.fill, session.classify, session.embed):
        with pytest.raises(ConfigError):
            asked("a picture of [MASK]")


def test_one_text_is_not_taken_for_several(session):
    pair = Session(tiny("quick_pair"), joint_tokenizer(["two hooks"], 300))
    for asked in (session.complete, pair.complete, pair.translations):
        with pytest.raises(ConfigError, match="give a list"):
            asked("abc")


def test_classes_of_one_name_are_not_merged():
    session = Session(tiny("bert"), byte_tokenizer(), labels=("crane", "crane"))
    with pytest.raises(ConfigError, match="two have one name"):
        session.classify("a bird")
