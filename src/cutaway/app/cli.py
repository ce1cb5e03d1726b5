"""`cutaway COMMAND ...`: loads a command's module when asked, turns errors into lines and exit codes."""

import io
import os
import sys
import traceback
import warnings
from importlib import import_module

import cutaway
from cutaway.errors import ConfigError, CutawayError, nearest

COMMANDS = {
    "train": "train a model: a recipe by name or path, or any text",
    "generate": "write text with a trained model",
    "chat": "talk with a model that was made for it",
    "translate": "translate lines, or what you type, with a trained encoder-decoder",
    "eval": "how well a language model predicts a text",
    "convert": "write a model as a Hugging Face folder",
    "inspect": "what a file of weights holds: tensors, dtypes, shapes, metadata",
    "report": "one page that shows what happens inside a model while it reads a text",
    "study": "trace, ablate, skip, lens: look into a model and change it",
    "recipes": "list, table, run, verify: the recipes that come with Cutaway and their results",
    "doctor": "what this machine can do and what Cutaway will therefore choose",
}
INTERRUPTED, PIPE_CLOSED, INTERNAL = 130, 141, 70


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, 2 for bad arguments, or that of the error."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # whatever the locale: what a model writes is UTF-8
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    usual, warnings.formatwarning = warnings.formatwarning, one_line
    try:
        return run(list(sys.argv[1:] if arguments is None else arguments))
    except CutawayError as error:
        print(f"cutaway: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("cutaway: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains while it ends
        return PIPE_CLOSED
    except Exception:
        traceback.print_exc()
        return INTERNAL
    finally:
        warnings.formatwarning = usual


def one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning as errors are printed: without the line of code that it came from."""
    return f"cutaway: {message}\n"


def run(arguments: list[str]) -> int:
    """Runs one command; its errors come out as they are."""
    match arguments:
        case [] | ["-h" | "--help", *_]:
            print(overview())
            return 0 if arguments else ConfigError.exit_code
        case ["--version", *_]:
            print(f"cutaway {cutaway.__version__}")
            return 0
        case [name, *_] if name not in COMMANDS:
            raise ConfigError(f"command {name!r} unknown; {nearest(name, COMMANDS, most=1)}")
    name, *rest = arguments
    return import_module(f"cutaway.app.{name}").run(load_plugins(rest))


def overview() -> str:
    """What `cutaway --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {said}" for name, said in COMMANDS.items()]
    return "\n".join(
        (
            "usage: cutaway COMMAND [options]",
            "",
            (cutaway.__doc__ or "").split("\n")[0],
            "",
            *lines,
            "",
            "cutaway COMMAND --help says more. Every command takes --plugin FILE.py, which may add records",
            "and modules of your own. NO_COLOR is respected. Bad arguments end with 2; the other exit codes",
            "are in cutaway.errors. Linux is supported; macOS and Windows are untested.",
        )
    )


def load_plugins(arguments: list[str]) -> list[str]:
    """Runs the files of every `--plugin FILE.py` and returns the other arguments; `--` ends the search."""
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--":
            return [*rest, argument, *waiting]
        name, equals, file = argument.partition("=")
        if name != "--plugin":
            rest.append(argument)
            continue
        if not equals:
            file = next(waiting, "")
        from cutaway.app.plugin import load_plugin

        load_plugin(file)
    return rest
