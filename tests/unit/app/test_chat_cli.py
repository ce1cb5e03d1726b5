"""`cutaway chat`: what is said is what the template renders, and every command does what it says."""

import io
import sys
import warnings
from dataclasses import replace

import pytest
import torch

from cutaway import models, spec
from cutaway.app.chat import Options, Talk
from cutaway.app.cli import main
from cutaway.data.tokenizer import subword_tokenizer
from cutaway.errors import ConfigError
from cutaway.session import Session, load
from tests.parity.drawn import redraw

pytest.importorskip("jinja2")
TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}]{{ message.content }};{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
LENGTH = 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with random parameters and a chat template, as a folder."""
    tokenizer = subword_tokenizer(["[user] [assistant] [system] hello there;"], 262)
    plan = spec.gpt2(1, 16, 2, vocab=tokenizer.vocab, length=LENGTH)
    model = redraw(models.build(plan), 3, torch.float32)
    made = Session(model, tokenizer, LENGTH).save_pretrained(tmp_path_factory.mktemp("made") / "model")
    (made / "chat_template.jinja").write_text(TEMPLATE)
    return made


@pytest.fixture(scope="module")
def session(folder):
    return load(folder)


@pytest.fixture
def talk(session, folder):
    return Talk(session, Options(model=str(folder), max_tokens=6, temperature=0.9, seed=5))


def test_an_answer_is_what_follows_the_rendered_conversation(session):
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    said = "".join(session.chat(messages, 8, temperature=0.0))
    assert said == session.generate("[system]be brief;[user]hello;[assistant]", 8, temperature=0.0)
    assert said != "".join(session.chat(messages[1:], 8, temperature=0.0)), "the system's message must count"


def test_lines_are_messages(folder, session, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hello\n\nthere\n")))
    asked = ("--temperature", "0", "--max-tokens", "5")
    assert main(["chat", "-m", str(folder), *asked]) == 0
    first = session.generate("[user]hello;[assistant]", 5, temperature=0.0)
    both = f"[user]hello;[assistant]{first};[user]there;[assistant]"
    second = session.generate(both, 5, temperature=0.0)
    assert capsys.readouterr().out == f"{first}\n{second}\n"


def test_the_commands(talk, capsys):
    talk.hear("hello")
    first = talk.messages[-1]["content"]
    talk.hear("/again")
    again = talk.messages[-1]["content"]
    assert [message["role"] for message in talk.messages] == ["user", "assistant"]
    assert again != first, "another answer draws other numbers"
    talk.hear("there")
    talk.hear("/edit hello hello")
    assert [m["content"] for m in talk.messages if m["role"] == "user"] == ["hello", "hello hello"]
    talk.hear("/undo")
    assert [message["content"] for message in talk.messages] == ["hello", again]
    talk.hear("/system be brief")
    talk.hear("/clear")
    assert talk.messages == [] and talk.system == "be brief"
    talk.hear("/help")
    assert "/again" in capsys.readouterr().out


def test_what_cannot_be_done_changes_nothing(talk, capsys):
    for line in ("/again", "/edit", "/edit x", "/undo", "/nonsense"):
        talk.hear(line)
    assert talk.messages == [] and capsys.readouterr().err.count("cutaway: ") == 4
    talk.hear("hello")
    before = list(talk.messages)
    talk.hear("a long message " * 60)
    assert talk.messages == before and "the message is taken back" in capsys.readouterr().err


def test_a_message_that_the_template_refuses_is_taken_back(talk, session, capsys):
    picky = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TEMPLATE
    )
    talk = Talk(replace(session, template=picky), talk.options)
    talk.hear("hello")
    before = list(talk.messages)
    talk.hear("/system be brief")
    talk.hear("there")
    told = capsys.readouterr().err
    assert talk.messages == before and "no system role; the message is taken back" in told
    talk.hear("/edit hello again")
    assert talk.messages == before and "is taken back" in capsys.readouterr().err
    talk.hear("/system")
    talk.hear("there")
    assert len(talk.messages) == 4 and not capsys.readouterr().err
    with pytest.raises(ConfigError, match="no system role"):
        Talk(replace(session, template=picky), replace(talk.options, system="be brief")).hear("hello")


def test_what_is_not_utf_8_is_refused(talk, capsys):
    talk.hear("caf\udce9")
    assert talk.messages == [] and "not UTF-8" in capsys.readouterr().err


def test_an_interrupted_answer_counts_as_far_as_it_came(talk, monkeypatch):
    def interrupted(*_, **__):
        yield "as far"
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "chat", interrupted)
    talk.hear("hello")
    assert talk.messages[-1] == {"role": "assistant", "content": "as far"}


def test_a_model_without_a_template_is_refused(folder, session, tmp_path, capsys):
    bare = session.save_pretrained(tmp_path / "bare")
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    assert main(["chat", "-m", str(bare)]) == ConfigError.exit_code
    assert "came without a chat template" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="use generate"):
        load(bare).chat([{"role": "user", "content": "hello"}])


def test_a_conversation_longer_than_the_training_is_told_of_once(tmp_path, monkeypatch):
    tokenizer = subword_tokenizer(["[user] [assistant] hello there;"], 262)
    model = models.build(spec.small(1, 16, 2, vocab=tokenizer.vocab)).eval()
    folder = Session(model, tokenizer, 24, template=TEMPLATE).save_pretrained(tmp_path / "made")
    assert load(folder).template == TEMPLATE, "a template goes with its model"
    told = []
    monkeypatch.setattr(
        warnings, "showwarning", lambda *given: told.append(warnings.formatwarning(*given[:4]))
    )
    long = "hello there; " * 30
    for lines, times in (("hello\n", 0), (f"hello\n{long}\n{long}\n", 1)):
        told.clear()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            assert main(["chat", "-m", str(folder), "--max-tokens", "2"]) == 0
        assert len(told) == times
    assert told[0].startswith("cutaway: chat: longer than the 24 tokens this model was trained for")
    assert told[0].count("\n") == 1
