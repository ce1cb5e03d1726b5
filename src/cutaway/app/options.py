"""Arguments of a command as a record, by tyro; what it refuses becomes one line."""

import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, TypeVar

import tyro

from cutaway.data.text import without_mark
from cutaway.errors import ConfigError, FileFormatError, InputMissingError

Options = TypeVar("Options")
Flag = tyro.conf.FlagCreatePairsOff[bool]
option = tyro.conf.arg
BORDER = re.compile(r"[╭╮╰╯│─]+|^\+-+.*\+$|^\|", re.MULTILINE)


def parse(record: type[Options], arguments: list[str], prog: str, description: str | None = None) -> Options:
    """The record that the arguments fill in; `--help` prints and leaves, what is refused is a ConfigError."""
    # Files and no terminals: to those tyro writes colours, NO_COLOR or not.
    help_text, said = (TextIOWrapper(BytesIO(), encoding="utf-8") for _ in range(2))
    try:
        with redirect_stdout(help_text), redirect_stderr(said):
            return tyro.cli(record, prog=prog, args=arguments, description=description)
    except SystemExit as leaving:
        if not leaving.code:
            print(written(help_text), end="")
            raise
        raise ConfigError(f"{refusal(written(said))} (see {prog} --help)") from None


def written(file: TextIOWrapper) -> str:
    file.seek(0)
    return file.read()


def refusal(said: str) -> str:
    """tyro's framed message as one line: what is wrong, and the option that was perhaps meant."""
    lines: list[Any] = [line.strip(" │|") for line in said.split("\n")]
    rules = [number for number, line in enumerate(lines) if line and not BORDER.sub("", line).strip(" -+")]
    framed = [line for line in lines[1 : rules[0] if rules else None] if line and not line.startswith("╭")]
    meant = re.findall(r"^(--[\w.-]+)", "\n".join(lines[rules[0] :] if rules else []), re.MULTILINE)
    sentence = " ".join(framed) or " ".join(BORDER.sub(" ", said).split())
    if meant and "nrecognized" in sentence:
        sentence += f"; did you mean {meant[0]}?"
    return sentence[:1].lower() + sentence[1:]


def read_text(name: str) -> str:
    """The text of a file, or of standard input where its name is a dash, without a byte-order mark."""
    if name == "-":
        data = sys.stdin.buffer.read()
    else:
        try:
            data = Path(name).read_bytes()
        except OSError as problem:
            raise InputMissingError(f"{name}: cannot be read ({problem.strerror}); check the path") from None
    try:
        return without_mark(data.decode("utf-8"))
    except UnicodeDecodeError as problem:
        raise FileFormatError(name, "not UTF-8; convert it", problem.start) from None
