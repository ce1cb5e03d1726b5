"""The harness of `make bench`: which text it takes, and how it ends where there is nothing to show."""

import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import pytest

from benchmarks import __main__ as command
from benchmarks import decode, loading, time_to_loss
from benchmarks.figure import Figure
from benchmarks.loads import peak_bytes
from benchmarks.process import ROOT
from benchmarks.session import Session
from cutaway.data import download

FIGURE = Figure("decode.planted", 2.0, 1.0, "tokens/s", "more", 1, "ours against nothing")


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command; gives its exit code and what it said to people and to standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
        return command.main(), *capsys.readouterr()

    return run


def test_a_named_benchmark_without_a_figure_is_a_failure(run, monkeypatch):
    monkeypatch.setattr(decode, "run", lambda session: [])
    code, _, err = run("decode")
    assert code == 1 and "no figure of decode: the notes above say why" in err
    monkeypatch.setattr(decode, "run", lambda session: [FIGURE])
    code, out, err = run("decode")
    assert code == 0 and "decode.planted" in out and "no figure" not in err


def test_of_all_benchmarks_some_may_be_left_out(run, monkeypatch):
    monkeypatch.setattr(command, "NAMES", ("decode", "time_to_loss"))
    monkeypatch.setattr(decode, "run", lambda session: [FIGURE])
    monkeypatch.setattr(time_to_loss, "run", lambda session: [])
    code, _, err = run()
    assert code == 0 and "no figure of time_to_loss" in err


def test_a_name_that_is_none_is_refused_with_the_nearest(run, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("decoed")
    assert "no benchmark 'decoed'; did you mean decode" in capsys.readouterr().err


def test_the_text_is_the_recipe_s_copy_or_the_named_one(tmp_path, monkeypatch):
    copy = tmp_path / "tinyshakespeare.txt"
    copy.write_text("First Citizen:")
    monkeypatch.setattr(download, "fetch", lambda name: str(copy))
    assert Session().tinyshakespeare() == copy
    other = tmp_path / "other.txt"
    missing = Session(text=other)
    assert missing.tinyshakespeare() is None and f"{other} is not there" in missing.notes[-1]
    other.write_text("Second Citizen:")
    assert Session(text=other).tinyshakespeare() == other


def test_without_a_network_the_note_says_what_to_do(tmp_path, monkeypatch):
    def nowhere(url, timeout):
        raise URLError("no network here")

    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path))
    monkeypatch.setattr(download, "urlopen", nowhere)
    session = Session()
    assert time_to_loss.run(session) == []
    assert "no network here" in session.notes[-1] and "by --text" in session.notes[-1]


def test_a_model_that_is_not_there_is_refused_with_the_way_to_one(run, capsys, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        run("decode", "--model", str(tmp_path / "x.gguf"))
    assert "x.gguf is not there; `make models` installs" in capsys.readouterr().err


def test_loading_asks_for_a_model_and_decode_for_one_that_llama_cpp_reads(tmp_path):
    session = Session()
    assert loading.run(session) == [] and "with --model" in session.notes[-1]
    (tmp_path / "x.gguf").write_bytes(b"something else")
    for path in (tmp_path, tmp_path / "x.gguf"):
        session = Session(model=path)
        assert decode.run(session) == [] and f"{path} is no GGUF file" in session.notes[-1]


def test_the_peak_of_a_process_counts_what_it_once_held():
    held = b"x" * 256 * 2**20
    del held
    assert peak_bytes() > 256 * 2**20
    fresh = [sys.executable, "-c", "from benchmarks.loads import peak_bytes; print(peak_bytes())"]
    own = int(subprocess.run(fresh, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    assert own < peak_bytes() / 2, "a child has its own"


def test_a_session_reads_no_file_outside_of_the_checkout_by_default():
    assert not [value for value in vars(Session()).values() if isinstance(value, Path)]


def test_a_precision_is_measured_that_this_processor_is_slow_in_where_it_is_asked_for(run, monkeypatch):
    seen = []
    monkeypatch.setattr(decode, "run", lambda session: seen.append(session.precisions) or [FIGURE])
    assert run("decode", "--precisions", "bf16")[0] == 0 and seen == [("bf16",)]
