"""`cutaway translate`: lines stay lines whatever is in them; what was translated is there before an error."""

import io
import json
import os
import select
import sys
import threading
from pathlib import Path
from unittest.mock import Mock

import pytest

from cutaway.app import translate as command
from cutaway.app.cli import main
from cutaway.app.scores import scores
from cutaway.data.pairing import Lowering, joint_tokenizer, marked_tokenizer
from cutaway.errors import ConfigError, FileFormatError, InputMissingError, LimitError
from cutaway.session import load

SMALL = ("--steps", "4", "--batch", "2", "--threads", "1", "--precision", "fp32", "--evaluate", "0")
MODEL = ("--model.layers", "2", "--model.width", "16", "--model.heads", "2", "--model.hidden", "16")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of an encoder-decoder that reverses strings; the working folder is its own."""
    made = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.setenv("CUTAWAY_HOME", str(made / "cache"))
        assert main(["train", "reverse", *SMALL, *MODEL, "--out", "runs/pair"]) == 0
        yield "runs/pair"


@pytest.fixture(scope="module")
def session(run):
    return load(run)


def say(run, capsys, *arguments, code=0):
    capsys.readouterr()
    assert main(["translate", "-m", run, *arguments]) == code
    return capsys.readouterr()


def typed(monkeypatch, text):
    data = text if isinstance(text, bytes) else text.encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def test_a_line_in_a_line_out(run, session, capsys, monkeypatch):
    lines = ["abc", "", "  ", "fedcba", "aab"]
    Path("lines.txt").write_text("\n".join(lines) + "\n")
    out = say(run, capsys, "lines.txt").out
    assert out.split("\n")[:-1] == session.translate(lines)
    typed(monkeypatch, "\r\n".join(lines))
    assert say(run, capsys, "-").out == out
    typed(monkeypatch, "\n".join(lines))
    assert say(run, capsys).out == out
    monkeypatch.setattr(command, "CHUNK", 2)
    assert say(run, capsys, "lines.txt").out == out


def test_lines_that_cannot_be_translated_leave_an_empty_one(run, session, capsys, monkeypatch):
    long = b"a" * 10_000
    typed(monkeypatch, b"\n".join((b"abc", long, "aé".encode(), b"ab\xff", b"a" * (2**20 + 9), b"cba")))
    said = say(run, capsys, code=LimitError.exit_code)
    first, *empty, last = said.out.split("\n")[:-1]
    assert [first, last] == session.translate(["abc", "cba"])
    assert empty == [""] * 4
    warnings = said.err.splitlines()
    assert [line.split(":")[1] for line in warnings] == [f" line {number}" for number in (2, 3, 4, 5)]
    for line, told in zip(warnings, ("10000 tokens", "'é'", "byte 2 is not UTF-8", "more than"), strict=True):
        assert told in line


def test_what_was_translated_is_written_before_an_error(run, capsys, monkeypatch):
    Path("lines.txt").write_text("abc\nabc\nabc\n")
    monkeypatch.setattr(command, "CHUNK", 1)
    whole = say(run, capsys, "lines.txt").out
    show, shown = command.Desk._shown, []

    def fail(desk, number, found):
        if shown:
            raise KeyboardInterrupt
        shown.append(number)
        return show(desk, number, found)

    monkeypatch.setattr(command.Desk, "_shown", fail)
    assert say(run, capsys, "lines.txt", code=130).out == whole.split("\n")[0] + "\n"


def test_alternatives_and_links_stand_behind_tabs(run, session, capsys):
    Path("one.txt").write_text("abcdef\n")
    columns = say(run, capsys, "one.txt", "--best", "2", "--align", "--beam", "3").out.strip("\n").split("\t")
    found = session.translations(["abcdef"], beam=3, best=2, align=True)[0]
    assert columns[:2] == [found.text, found.alternatives[0].text]
    assert len(columns) == 3 and columns[2].count("→") == len(found.alignment.links)
    Path("one.txt").write_text("\n")
    assert say(run, capsys, "one.txt", "--best", "2", "--align").out == "\t\t\n"


def test_json_tells_everything(run, session, capsys):
    Path("two.txt").write_text("abc\n\n")
    arguments = ("--json", "--best", "2", "--align", "--length-penalty", "0.5", "--max-tokens", "6")
    first, second = map(json.loads, say(run, capsys, "two.txt", *arguments).out.splitlines())
    found = session.translations(["abc"], best=2, length_penalty=0.5, max_tokens=6)[0]
    assert (first["line"], first["text"], tuple(first["tokens"])) == (1, found.text, found.tokens)
    assert first["score"] == pytest.approx(found.score)
    assert len(first["alternatives"]) == 1 and len(first["alignment"]["weights"]) == len(found.tokens)
    assert (second["line"], second["text"], second["tokens"]) == (2, "", [])
    assert second["score"] is None and "error" not in second


def test_json_tells_a_refused_line_from_an_empty_one(run, capsys, monkeypatch):
    typed(monkeypatch, b"\nab\xff\n")
    empty, refused = map(json.loads, say(run, capsys, "--json", code=LimitError.exit_code).out.splitlines())
    assert "error" not in empty and refused["error"] == "byte 2 is not UTF-8: convert it"
    assert empty["log_probability"] is None and refused["score"] is None


def test_a_line_that_is_too_long_stays_so_where_a_return_stands_at_its_limit():
    long = b"a" * command.MOST_BYTES
    read = list(command.lines(io.BytesIO(long + b"\rmore\n" + long + b"\r\nb\r\nc\r")))
    assert list(map(len, read)) == [len(long) + 1, len(long) + 1, 1, 2]


def test_a_reference_scores(run, session, capsys):
    pytest.importorskip("sacrebleu")
    Path("lines.txt").write_text("abc\ncba\n")
    Path("right.txt").write_text("abc\ncba\n")
    err = say(run, capsys, "lines.txt", "--reference", "right.txt").err
    assert err.startswith("BLEU ") and "version" in err and err.count("\n") == 2
    assert err.splitlines()[1].startswith("BLEU4 = ") and "reflen=2)" in err
    by_length = say(run, capsys, "lines.txt", "--reference", "right.txt", "--by-length").err
    assert by_length.startswith(err) and by_length.splitlines()[2].split() == ["words", "sentences", "BLEU"]
    assert by_length.splitlines()[3].split()[:4] == ["up", "to", "5", "2"]
    said = say(run, capsys, "lines.txt", "--by-length", code=ConfigError.exit_code)
    assert "give a --reference" in said.err and said.out == ""
    Path("right.txt").write_text("abc\n")
    said = say(run, capsys, "lines.txt", "--reference", "right.txt", code=FileFormatError.exit_code)
    assert said.out == "" and "right.txt: 1 lines, but lines.txt has 2" in said.err  # told before the work


def test_a_score_is_of_the_text_that_the_tokenizer_writes():
    bleu = pytest.importorskip("cutaway.data.bleu")
    pytest.importorskip("sacrebleu")
    marked = marked_tokenizer(["a pul@@ ley and two hooks , bent"])
    written, cut = "a pulley and two hooks , bent", "a pul@@ ley and two hooks , bent"
    found = bleu.tokenised([written], [written])
    said = scores([written], [cut], marked, [" ".join(["ein@@ s"] * 5)])
    assert said[:2] == [f"BLEU 100.00  {found.signature}", found.line()] and "tok:none" in said[0]
    assert said[2].split() == ["words", "sentences", "BLEU"]
    assert said[3].split() == ["up", "to", "5", "1", "100.00"], "joined words are counted"
    assert said[4].split() == ["6", "to", "10", "0", "–"]
    plain = joint_tokenizer(["two hooks"], 300)
    lowered, given = Lowering(plain.inner), (["two hooks, bent at it"], ["Two Hooks, bent at it"])
    for tokenizer, lower in ((plain, False), (lowered, True)):
        found = bleu.detokenised(*given, lower=lower)
        assert scores(*given, tokenizer) == [f"BLEU {found.score:.2f}  {found.signature}", found.line()]
        assert (found.score == pytest.approx(100)) == lower
    assert "case:lc" in scores([written], [cut.title()], Lowering(marked.inner))[0]


def test_references_have_the_lines_of_the_source(run, capsys, monkeypatch):
    pytest.importorskip("sacrebleu")
    Path("lines.txt").write_text("abc\ncba\n")
    Path("right.txt").write_text("a\u2028bc\r\ncba")
    assert say(run, capsys, "lines.txt", "--reference", "right.txt").err.startswith("BLEU ")
    Path("right.txt").write_text("")
    said = say(run, capsys, "lines.txt", "--reference", "right.txt", code=FileFormatError.exit_code)
    assert "right.txt: 0 lines, but lines.txt has 2" in said.err


def test_a_prompt_where_a_person_types(run, session, capsys, monkeypatch):
    class Person(io.TextIOWrapper):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Person(io.BytesIO("abc\n\naé\n".encode()), encoding="utf-8"))
    said = say(run, capsys, "--align")
    found = session.translate("abc")
    assert said.out.startswith(f"{found}\n") and said.out.count("→") and said.out.count("\n") == 2
    assert "line 2: character 'é'" in said.err and said.err.count("> ") == 4


def test_several_lines_may_be_pasted_and_a_sentence_dropped(run, session, capsys, monkeypatch):
    typed_lines = iter(["abc\ncba", "aab", "fed", None])
    translate = command.Desk._translate

    def interrupted(desk, sources):
        if sources == [list(session.tokenizer.encode("aab"))]:
            raise KeyboardInterrupt
        return translate(desk, sources)

    monkeypatch.setattr(sys, "stdin", Mock(isatty=lambda: True))
    monkeypatch.setattr(command, "ask", lambda: next(typed_lines))
    monkeypatch.setattr(command.Desk, "_translate", interrupted)
    assert say(run, capsys).out.split("\n")[:-1] == session.translate(["abc", "cba", "fed"])


def test_a_pipe_is_read_as_it_comes(monkeypatch):
    end, begin = os.pipe()
    with os.fdopen(end, "rb") as file:
        found = command.chunks(file)
        os.write(begin, b"a\nb\r\nhalf")
        assert next(found) == [b"a", b"b"], "half a line waits, the others do not"
        os.write(begin, b" a line\n")
        assert next(found) == [b"half a line"]
        os.write(begin, b"x\n" * (command.CHUNK + 1))
        assert [len(next(found)), len(next(found))] == [command.CHUNK, 1]
        os.write(begin, b"no end")
        os.close(begin)
        assert list(found) == [[b"no end"]]
    end, begin = os.pipe()
    with os.fdopen(end, "rb") as file:
        monkeypatch.setattr(command, "MOST_BYTES", 5)
        os.write(begin, b"123456789\n1\n")
        os.close(begin)
        assert list(command.chunks(file)) == [[b"123456", b"1"]], "one that is too long comes cut"


def test_who_writes_into_a_pipe_need_not_close_it(run, session, monkeypatch):
    """Each line is answered before the next is asked: with fixed chunks this would wait for ever."""
    (its_in, ours_out), (ours_in, its_out) = os.pipe(), os.pipe()
    given = io.TextIOWrapper(os.fdopen(its_in, "rb"), encoding="utf-8")
    shown = io.TextIOWrapper(os.fdopen(its_out, "wb"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", given)
    monkeypatch.setattr(sys, "stdout", shown)
    codes: list[int] = []
    at_work = threading.Thread(target=lambda: codes.append(main(["translate", "-m", run])), daemon=True)
    at_work.start()
    for line in ("abc", "fed"):
        os.write(ours_out, f"{line}\n".encode())
        assert select.select([ours_in], [], [], 120)[0], "no answer came"
        assert os.read(ours_in, 4096).decode() == session.translate(line) + "\n"
    os.close(ours_out)
    at_work.join(120)
    given.close()
    shown.close()
    os.close(ours_in)
    assert codes == [0]


def test_what_cannot_be_is_one_line(run, capsys):
    assert "cannot be read" in say(run, capsys, "nowhere.txt", code=InputMissingError.exit_code).err
    assert "best 9" in say(run, capsys, "lines.txt", "--best", "9", code=LimitError.exit_code).err
    Path("text.txt").write_text("To be, or not to be\n" * 200)
    sizes = ("--model.layers", "1", "--model.width", "16", "--model.heads", "2", "--length", "16")
    train = ("train", "text.txt", *SMALL, *sizes, "--data.tokenizer", "bytes", "--out", "runs/single")
    assert main(list(train)) == 0
    said = say("runs/single", capsys, "lines.txt", code=ConfigError.exit_code)
    assert said.err.count("\n") == 1 and "needs an encoder-decoder" in said.err
