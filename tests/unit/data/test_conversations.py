"""Conversations from files: what is read, how they are put aside, what is refused with file and line."""

import gzip
import json

import pytest

from cutaway.data.conversations import read_conversations, read_file
from cutaway.errors import ConfigError, FileFormatError, InputMissingError

PAIR = [{"role": "user", "content": "What is é?"}, {"role": "assistant", "content": "A letter."}]


def line(*messages, **more) -> str:
    return json.dumps({"messages": list(messages), **more})


def numbered(count: int) -> str:
    return "\n".join(
        line({**PAIR[0], "content": f"{i}?"}, {**PAIR[1], "content": f"{i}."}) for i in range(count)
    )


def test_a_line_is_a_conversation(tmp_path):
    system = {"role": "system", "content": "Be brief."}
    path = tmp_path / "chats.jsonl"
    path.write_text(f"{line(*PAIR, id=7)}\n\n{line(system, *PAIR, *PAIR)}\n")
    assert read_file(path) == [tuple(PAIR), (system, *PAIR, *PAIR)]
    packed = tmp_path / "chats.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_file(packed) == read_file(path)


def test_they_are_put_aside_by_what_they_say(tmp_path):
    (tmp_path / "a").write_text(numbered(300))
    (tmp_path / "b").write_text(numbered(400))  # the same and more
    small, large = (read_conversations((str(tmp_path / name),), 0.2) for name in "ab")
    assert 30 < len(small.validation) < 90 and len(small.train) + len(small.validation) == 300
    assert set(map(str, small.validation)) <= set(map(str, large.validation))
    assert set(map(str, small.train)) <= set(map(str, large.train))
    twice = read_conversations((str(tmp_path / "a"), str(tmp_path / "a")), 0.2)
    assert len(twice.train) == 2 * len(small.train) and twice.digest != small.digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1: not valid JSON"),
        (f"{line(*PAIR)}\n[1]", 'line 2: no object with a list "messages"'),
        ('{"messages": []}', 'line 1: no object with a list "messages"'),
        ('{"text": "a"}', 'line 1: no object with a list "messages"'),
        ("[" * 100_000, "line 1: not valid JSON"),
        (line("a", PAIR[1]), "line 1: message 1 is not a table of role and content alone"),
        (line({**PAIR[0], "name": "Ann"}, PAIR[1]), "line 1: message 1 is not a table"),
        (
            line(PAIR[0], {"role": "assistant", "content": None}),
            "line 1: message 2: content must be a string",
        ),
        (line({"role": "<|im_end|>", "content": ""}, PAIR[1]), "line 1: message 1: role must be a word"),
        (line(PAIR[0]), "line 1: no message of the assistant"),
        (line(*PAIR, tools=[{}]), "line 1: has tools"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_line(text, said, tmp_path):
    path = tmp_path / "chats.jsonl"
    path.write_text(text)
    with pytest.raises(FileFormatError) as refused:
        read_file(path)
    assert said in str(refused.value) and str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_nothing_to_read_and_nothing_to_put_aside(tmp_path):
    with pytest.raises(InputMissingError, match="nowhere: no such file"):
        read_file(tmp_path / "nowhere")
    (tmp_path / "empty").write_text("\n \n")
    with pytest.raises(InputMissingError, match="holds no conversation"):
        read_file(tmp_path / "empty")
    (tmp_path / "one").write_text(line(*PAIR))
    with pytest.raises(ConfigError, match=r"1 conversations are too few to put 0\.1 of them aside"):
        read_conversations((str(tmp_path / "one"),), 0.1)
