"""Every error a user can cause, with the exit code the command line ends with.

The codes follow sysexits(3) where it has one: 64 usage, 65 bad data, 66 no input, 69 unavailable, 70
internal, 73 cannot create, 74 input/output. Bad command-line arguments end with 2.
A message is one line: what is wrong (file, field), what was expected, what to do.
"""

from difflib import get_close_matches
from pathlib import Path


class CutawayError(Exception):
    """The root: anything Cutaway refuses on purpose."""

    exit_code = 1


class ConfigError(CutawayError):
    """A preset, key or value that does not exist or does not fit."""

    exit_code = 2


class LimitError(CutawayError):
    """A stated limit was reached, or a request lies outside it."""

    exit_code = 64


class ContextLengthError(LimitError):
    """More tokens than the model has positions for."""

    def __init__(self, have: int, most: int):
        self.have, self.most = have, most
        told = f"{have} tokens, but the model has positions for {most}"
        super().__init__(f"{told}: shorten the text or ask for fewer")


class TapError(CutawayError):
    """A tap name that does not exist, an edit that was never applied, or a value of the wrong shape."""

    exit_code = 64


class FileFormatError(CutawayError):
    """A file whose contents break a rule of its format, or whose checksum is wrong."""

    exit_code = 65

    def __init__(self, path: str | Path, rule: str, offset: int | None = None):
        self.path, self.rule, self.offset = Path(path), rule, offset
        where = f"{path}" if offset is None else f"{path}, byte {offset}"
        super().__init__(f"{where}: {rule}")


class InputMissingError(CutawayError):
    """A file or folder that is not there, or holds nothing to read."""

    exit_code = 66


class NonFiniteError(CutawayError):
    """Loss or gradient was not finite too many steps in a row."""

    exit_code = 70

    def __init__(self, step: int, what: str, samples: list[int]):
        self.step, self.what, self.samples = step, what, samples
        told = f"step {step}: {what} is not finite (examples {samples})"
        super().__init__(f"{told}: begin a new run with a lower --optimizer.rate and another --out")


class RunLockedError(CutawayError):
    """The directory is in use by another process."""

    exit_code = 73

    def __init__(self, path: str | Path, holder: str):
        self.path, self.holder = Path(path), holder
        super().__init__(f"{path}: in use by {holder}; wait for it, stop it, or choose another directory")


class OutputExistsError(CutawayError):
    """Writing there would lose something that is already there."""

    exit_code = 73


class SaveError(CutawayError):
    """Something could not be written; what was there before is untouched."""

    exit_code = 74


class CheckpointSaveError(SaveError):
    """The checkpoint could not be written after the last retry."""

    def __init__(self, need: int, free: int, path: str | Path, why: str):
        self.need, self.free, self.path = need, free, Path(path)
        super().__init__(f"checkpoint not saved: need {need:,} bytes, free {free:,}, path {path} ({why})")


class MissingExtraError(CutawayError):
    """An optional dependency is not installed."""

    exit_code = 69

    def __init__(self, extra: str):
        self.extra = extra
        super().__init__(f'cutaway[{extra}] is needed: pip install "cutaway[{extra}]"')


def nearest(name: str, names, most: int = 3) -> str:
    """A hint that ends an error message: the names closest to `name`, or all of them where they are few."""
    names = [str(n) for n in names]
    close = get_close_matches(name, names, n=most, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "known: " + ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
