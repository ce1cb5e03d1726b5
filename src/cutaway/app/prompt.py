"""Lines that a person types: a prompt with line editing; Ctrl-C drops the line, Ctrl-D ends the input."""

import io
import sys
from contextlib import suppress

PROMPT = "> "


def ask() -> str | None:
    """The next line of standard input without its end, None behind the last; a terminal shows a prompt.

    The prompt goes where a person looks: to standard error where standard output is a file or a pipe. What is
    pasted may have several lines. Bytes that are no UTF-8 come as lone surrogates, as `os.fsdecode` has them.
    """
    if isinstance(sys.stdin, io.TextIOWrapper) and sys.stdin.errors == "strict":  # before the first line
        sys.stdin.reconfigure(errors="surrogateescape")
    if not sys.stdin.isatty():
        return read_line()
    while True:
        try:
            return type_line()
        except EOFError:
            print(file=sys.stderr)
            return None
        except KeyboardInterrupt:
            print(file=sys.stderr)


def type_line() -> str:
    """What is typed at a prompt; raises EOFError at the end."""
    if sys.stdout.isatty():
        with suppress(ImportError):  # a Python without it edits as the terminal does, 4,095 bytes at most
            import readline  # noqa: F401 (input() uses it once it is there)
        return input(PROMPT)
    print(PROMPT, end="", file=sys.stderr, flush=True)
    line = read_line()
    if line is None:
        raise EOFError
    return line


def read_line() -> str | None:
    line = sys.stdin.readline()
    return line.rstrip("\r\n") if line else None
