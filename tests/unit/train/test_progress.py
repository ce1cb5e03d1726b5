"""What a person sees: plain lines without a terminal, a bar on one, colour unless refused."""

import io

import pytest
from rich.console import Console

from cutaway.app import progress
from cutaway.app.progress import Bar, Lines, Pace, describe, remaining, reporter
from cutaway.train.progress import Silent

FIGURES = {"loss": 2.34567, "tokens_per_second": 12345.6, "share_of_peak": 0.314, "validation": 2.5}


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def test_the_figures_are_those_promised():
    assert describe(FIGURES) == "loss 2.346  validation 2.500  12,346 tokens/s  31% of peak"
    assert describe({"loss": 1.0, "tokens_per_second": 5.0}) == "loss 1.000  5 tokens/s"


def test_time_left_is_the_pace_since_the_first_step(monkeypatch):
    clock, pace = Clock(monkeypatch), Pace(30)
    clock.now += 50  # what happens once: compiling
    assert pace.seconds_left(11) is None  # a run that goes on begins in the middle
    clock.now += 8
    assert pace.seconds_left(15) == pytest.approx(2 * 15)
    assert remaining(30) == "  0:30 left" and remaining(3725.4) == "  62:05 left" and remaining(None) == ""


def test_lines_come_at_most_every_ten_seconds_and_at_the_end(monkeypatch, capsys):
    clock, lines = Clock(monkeypatch), Lines(30)
    for done in range(1, 31):
        clock.now += 1
        lines.step(done, FIGURES)
    lines.say("done")
    lines.close()
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in said[:-1]] == ["1/30", "11/30", "21/30", "30/30"]
    assert said[1] == f"step 11/30  {describe(FIGURES)}  0:19 left"
    assert said[-1] == "done"


def test_warnings_go_to_standard_error(capsys):
    Lines(3).warn("mind this")
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "cutaway: warning: mind this\n"
    with pytest.warns(UserWarning, match="mind this"):
        Silent().warn("mind this")


@pytest.mark.parametrize("refused", [False, True])
def test_the_bar_has_colour_unless_refused(refused, monkeypatch):
    if refused:
        monkeypatch.setenv("NO_COLOR", "1")
    else:
        monkeypatch.delenv("NO_COLOR", raising=False)
    out = io.StringIO()
    bar = Bar(20, Console(file=out, force_terminal=True, width=120, color_system="standard"))
    bar.say("begins [here]")
    bar.step(3, FIGURES)
    bar.step(10, FIGURES)
    bar.warn("mind this")
    bar.close()
    said = out.getvalue()
    assert "10/20" in said and "2.346" in said and "left" in said and "begins [here]" in said
    assert "mind this" in said
    assert ("\x1b[3" in said) != refused


def test_which_one_depends_on_where_the_output_goes(monkeypatch):
    monkeypatch.setattr(progress.sys, "stdout", io.StringIO())
    assert isinstance(reporter(3), Lines)
