"""The prompt, at a terminal of its own: lines are edited, dropped and ended as people expect."""

import io
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from cutaway.app import prompt

PROGRAM = """
import sys
from cutaway.app.prompt import ask
while (line := ask()) is not None:
    print("<" + line + ">", len(line), flush=True)
print("over", flush=True)
"""
SECONDS = 60  # a machine may be busy; nothing here waits that long


class Terminal:
    """A program at a terminal, and what a person sees of it."""

    def __init__(self, out: int | None = None):
        ours, its = pty.openpty()
        environment = os.environ | {"TERM": "xterm", "LANG": "C.UTF-8", "INPUTRC": "/dev/null"}
        self.shell = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=its, stdout=its if out is None else out, stderr=its,
            env=environment, start_new_session=True, preexec_fn=own_terminal,
        )  # fmt: skip
        os.close(its)
        self.screen, self.seen = ours, ""

    def type(self, keys: str) -> None:
        data = keys.encode()
        while data:  # a terminal takes some thousand bytes at a time
            data = data[os.write(self.screen, data[:512]) :]
            time.sleep(0.01)

    def wait_for(self, text: str) -> None:
        """Read until the text has come, and forget what came before its end."""
        end = time.monotonic() + SECONDS
        while text not in self.seen:
            assert select.select([self.screen], [], [], max(0.0, end - time.monotonic()))[0], self.seen
            self.seen += os.read(self.screen, 65536).decode("utf-8", "replace")
        self.seen = self.seen.partition(text)[2]

    def close(self) -> None:
        self.shell.kill()
        self.shell.wait()
        os.close(self.screen)


def own_terminal() -> None:
    """Make standard input the terminal that sends its Ctrl-C here."""
    import fcntl
    import termios

    signal.signal(signal.SIGINT, signal.default_int_handler)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal():
    made = Terminal()
    yield made
    made.close()


def test_lines_at_a_terminal(terminal):
    pytest.importorskip("readline")
    terminal.wait_for("> ")
    terminal.type("ac\x1b[Db\r")  # an arrow, and a letter between the two
    terminal.wait_for("<abc> 3")
    terminal.wait_for("> ")
    terminal.type("\x1b[A!\r")  # the line before
    terminal.wait_for("<abc!> 4")
    terminal.wait_for("> ")
    terminal.type("dropped\x03")
    terminal.wait_for("> ")
    terminal.type("kept é\r")
    terminal.wait_for("<kept é> 6")
    terminal.wait_for("> ")
    terminal.type("\r")
    terminal.wait_for("<> 0")
    terminal.wait_for("> ")
    terminal.type("x" * 5_000 + "\r")  # without an editor of its own a terminal keeps 4,095
    terminal.wait_for("x> 5000")
    terminal.wait_for("> ")
    terminal.type("\x04")
    terminal.wait_for("over")
    assert terminal.shell.wait(SECONDS) == 0


def test_the_prompt_stays_out_of_a_file(tmp_path):
    with (tmp_path / "out").open("wb") as out:
        terminal = Terminal(out.fileno())
        try:
            terminal.wait_for("> ")
            terminal.type("abc\n")
            terminal.wait_for("> ")
            terminal.type("\x04")
            assert terminal.shell.wait(SECONDS) == 0
        finally:
            terminal.close()
    assert (tmp_path / "out").read_text() == "<abc> 3\nover\n"


def test_lines_of_a_pipe_come_without_a_prompt(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\r\n\n\xff\nlast"), encoding="utf-8"))
    assert [prompt.ask() for _ in range(5)] == ["one", "", "\udcff", "last", None]
    assert capsys.readouterr() == ("", "")
