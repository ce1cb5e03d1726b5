"""`cutaway translate -m RUN [FILE | -]`: one line in, one line out; without either, a prompt to type at."""

import json
import select
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import tyro

from cutaway.app.options import Flag, option, parse, read_text
from cutaway.app.prompt import ask
from cutaway.data.text import without_mark
from cutaway.errors import ConfigError, FileFormatError, InputMissingError, LimitError

if TYPE_CHECKING:
    from cutaway.data.tokenizer import Tokenizer
    from cutaway.generate.translate import Translation, Translator

CHUNK = 512  # lines that are read, translated in batches of like length, and written
PIPE_SECONDS = 0.05  # how long the first line of a chunk waits for others where lines come one by one
PIPE_BYTES = 2**16
MOST_BYTES = 2**20  # of one line


@dataclass(frozen=True)
class Options:
    """Translate the lines of a file, or of standard input where it is a dash or nothing.

    One line is written for each line, the others of the best and the alignment behind tabs. A line that
    cannot be translated gives a warning and an empty line; the exit code then is 64. What a pipe brings is
    translated as it comes.
    """

    model: Annotated[str, option(aliases=["-m"], help="a run, or anything else `cutaway.load` takes")]
    file: Annotated[tyro.conf.Positional[str], option(help="a file with a sentence a line")] = ""
    beam: Annotated[int, option(help="prefixes that are kept of each sentence; 1 is greedy")] = 5
    length_penalty: Annotated[float, option(help="scores are log p / length^this; 0 favours the short")] = 1.0
    best: Annotated[int, option(help="write this many translations of each line")] = 1
    max_tokens: Annotated[
        int | None, option(help="at most this many; 1.5 times the source and 20 more if not given")
    ] = None
    batch_tokens: Annotated[int, option(help="translate about this many source tokens at once")] = 2_048
    codes: Annotated[str | None, option(help="subword-nmt's: cut tokenised text that is read cut")] = None
    align: Annotated[Flag, option(help="say which token of the source each token was written from")] = False
    reference: Annotated[
        str | None, option(help="a file of right translations, line by line: BLEU on standard error")
    ] = None
    by_length: Annotated[Flag, option(help="with --reference: BLEU by the words of the source, too")] = False
    json: Annotated[Flag, option(help="a JSON object a line")] = False


def run(arguments: list[str]) -> int:
    """Translates line by line; ends with LimitError's code where one line could not be translated."""
    options = parse(Options, arguments, "cutaway translate")
    if options.by_length and options.reference is None:
        raise ConfigError("--by-length is of BLEU: give a --reference, or leave it out")
    with opened(options.file) as file:
        return answer(options, file)


def answer(options: Options, file: IO[bytes]) -> int:
    """Loads the model and translates the file, or what is typed where there is a terminal instead."""
    references = None if options.reference is None else read_lines(options.reference)
    if references is not None and file.seekable():
        check_counts(options, len(references), sum(1 for _ in lines(file)))
        file.seek(0)
    from cutaway.app.scores import scores
    from cutaway.data import bleu
    from cutaway.data.pairing import Codes
    from cutaway.generate.align import look_sites
    from cutaway.generate.translate import Translator
    from cutaway.session import load

    if references is not None:
        bleu.check_installed()
    session = load(options.model)
    translator = Translator(
        session.model,
        session.tokenizer,
        beam=options.beam,
        length_penalty=options.length_penalty,
        max_tokens=options.max_tokens,
        best=options.best,
        batch_tokens=options.batch_tokens,
        codes=None if options.codes is None else Codes(options.codes),
    )
    if options.align:
        look_sites(translator.model)
    desk = Desk(translator, options)
    if not options.file and sys.stdin.isatty():
        desk.converse()
        return 0
    kept = desk.translate_file(file, keep=references is not None)
    if references is not None:
        check_counts(options, len(references), len(kept))
        sources = [source for source, _ in kept] if options.by_length else None
        said = scores([text for _, text in kept], references, session.tokenizer, sources)
        print(*said, sep="\n", file=sys.stderr)
    return LimitError.exit_code if desk.refused else 0


def opened(name: str) -> Any:
    """A file of bytes to be entered; standard input, which is not closed, for a dash or nothing."""
    if name in ("", "-"):
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(name).open("rb")
    except OSError as problem:
        raise InputMissingError(f"{name}: cannot be read ({problem.strerror}); check the path") from None


class Desk:
    """Takes lines, gives translations; `refused` says of the lines that have none why."""

    def __init__(self, translator: "Translator", options: Options):
        self.translator, self.options = translator, options
        self.refused: dict[int, str] = {}

    def translate_file(self, file: IO[bytes], keep: bool) -> list[tuple[str, str]]:
        """Writes the translation of every line, a chunk at a time; returns both where they are kept."""
        kept: list[tuple[str, str]] = []
        first = 1
        for chunk in chunks(file):
            numbers = range(first, first + len(chunk))
            sources = [self._source(number, line) for number, line in zip(numbers, chunk, strict=True)]
            for number, line, found in zip(numbers, chunk, self._translate(sources), strict=True):
                print(self._shown(number, found))
                if keep:
                    kept.append((line.decode("utf-8", "replace"), found.text))
            sys.stdout.flush()
            first += len(chunk)
        return kept

    def converse(self) -> None:
        """Translates what is typed, sentence by sentence, until the input ends; Ctrl-C drops a sentence."""
        print("cutaway: type a sentence; Ctrl-D ends", file=sys.stderr)
        number = 0
        while (typed := ask()) is not None:
            try:
                for sentence in filter(str.strip, typed.split("\n")):  # several may be pasted
                    number += 1
                    if source := self._source(number, sentence.encode("utf-8", "surrogateescape")):
                        shown = self._shown(number, self._translate([source])[0])
                        print(shown.replace("\t", "\n"), flush=True)
            except KeyboardInterrupt:
                print(file=sys.stderr)

    def _source(self, number: int, line: bytes) -> list[int]:
        try:
            if len(line) > MOST_BYTES:
                raise LimitError(f"more than {MOST_BYTES:,} bytes: cut it into sentences")
            text = decoded(line)
            source = self.translator.encode(without_mark(text) if number == 1 else text)
        except LimitError as problem:
            self.refused[number] = str(problem)
            warn(number, f"{problem}; its translation is left empty")
            return []
        if doubt := self.translator.doubt(source):
            warn(number, doubt)
        return source

    def _translate(self, sources: Sequence[Sequence[int]]) -> "list[Translation]":
        found = self.translator.translate(sources)
        return self.translator.align(found) if self.options.align else found

    def _shown(self, number: int, found: "Translation") -> str:
        if self.options.json:
            error = {"error": self.refused[number]} if number in self.refused else {}
            return json.dumps({"line": number, **told(found), **error}, ensure_ascii=False)
        texts = [one_line(each.text) for each in (found, *found.alternatives)]
        texts += [""] * (self.options.best - len(texts))  # so that the alignment keeps its column
        if self.options.align:
            texts.append(links(found, self.translator.tokenizer))
        return "\t".join(texts)


def read_lines(name: str) -> list[str]:
    """The lines of a text, which end where those that are translated do: Unicode has other line breaks."""
    text = read_text(name)
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def check_counts(options: Options, have: int, need: int) -> None:
    if have != need:
        rule = f"{have} lines, but {options.file or 'standard input'} has {need}"
        raise FileFormatError(str(options.reference), f"{rule}: give one right translation for each line")


class Pipe:
    """What comes through a pipe, and whether a line of it is there yet."""

    def __init__(self, file: IO[bytes]):
        self.file, self.held, self.ended = file, bytearray(), False

    def readline(self, most: int) -> bytes:
        """The next line with its end, or its first `most` bytes; waits for them."""
        while not self._has_line(most):
            self._read()
        size = min(self.held.find(b"\n") + 1 or len(self.held), most)
        line = bytes(self.held[:size])
        del self.held[:size]
        return line

    def ready(self, seconds: float) -> bool:
        """Whether a line comes within so many seconds."""
        end = time.monotonic() + seconds
        while not self._has_line(MOST_BYTES):
            if not select.select([self.file], [], [], max(0.0, end - time.monotonic()))[0]:
                return False
            self._read()
        return bool(self.held)

    def _has_line(self, most: int) -> bool:
        return self.ended or len(self.held) >= most or b"\n" in self.held

    def _read(self) -> None:
        read: Any = self.file
        data = read.read1(PIPE_BYTES)  # what is there, and nothing stays behind in its buffer
        self.held += data
        self.ended = not data


def chunks(file: IO[bytes]) -> Iterator[list[bytes]]:
    """The lines, CHUNK at a time; of a pipe those that have come PIPE_SECONDS after the first."""
    pipe = None if file.seekable() else Pipe(file)
    chunk: list[bytes] = []
    end = 0.0
    for line in lines(file if pipe is None else pipe):
        end = end if chunk else time.monotonic() + PIPE_SECONDS
        chunk.append(line)
        if len(chunk) == CHUNK or (pipe is not None and not pipe.ready(end - time.monotonic())):
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def lines(file: IO[bytes] | Pipe) -> Iterator[bytes]:
    """The lines of a file without their ends; one that is too long comes cut, one byte too long."""
    while line := file.readline(MOST_BYTES + 1):
        body = line.removesuffix(b"\n")
        yield body if len(body) == len(line) else body.removesuffix(b"\r")
        while line and not line.endswith(b"\n"):
            line = file.readline(MOST_BYTES + 1)


def decoded(line: bytes) -> str:
    """The text of a line; raises LimitError where it is not UTF-8."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise LimitError(f"byte {problem.start} is not UTF-8: convert it") from None


def warn(number: int, problem: str) -> None:
    print(f"cutaway: line {number}: {problem}", file=sys.stderr)


def one_line(text: str) -> str:
    """A text without the signs that separate lines and columns."""
    return " ".join(text.replace("\t", " ").splitlines())


def links(found: "Translation", tokenizer: "Tokenizer") -> str:
    """The links of an alignment as `source→target`, in the order of the target."""
    if found.alignment is None:
        return ""
    named = (
        (tokenizer.token_name(found.source[source]), tokenizer.token_name(found.tokens[target]))
        for target, source in found.alignment.links
    )
    return " ".join(f"{source.strip()}→{target.strip()}" for source, target in named)


def told(found: "Translation") -> dict[str, Any]:
    """A translation as JSON says it."""
    record: dict[str, Any] = {
        "text": found.text,
        "score": found.score if found.source else None,  # nobody was asked about an empty line
        "log_probability": found.log_probability if found.source else None,
        "ended": found.ended,
        "source": found.source,
        "tokens": found.tokens,
    }
    if found.alternatives:
        record["alternatives"] = [told(each) for each in found.alternatives]
    if found.alignment is not None:
        record["alignment"] = {
            "links": found.alignment.links,
            "weights": [[round(weight, 4) for weight in row] for row in found.alignment.weights_LM.tolist()],
        }
    return record
