"""Text in, text out: prompts are encoded, decoded together, and each ends for its own reason."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from cutaway.data.begin import begin_token, front_ids, source_ids
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import ConfigError
from cutaway.generate.decode import Decoding, check_prompts
from cutaway.generate.sample import Sampling, check_whole
from cutaway.generate.stream import TextStream
from cutaway.models import AnyModel, Pair

BATCH = 16
Finish = Literal["stop", "length", "end"]


@dataclass(frozen=True)
class Completion:
    """What was written for one prompt.

    `text` ends in front of the stop string. `tokens` are all that were drawn, the end token and those of
    the stop string included, and `log_probabilities` has one number for each: the model's own, before
    temperature and filters. `finish` is "stop" for a stop string, "end" for the end token, "length" where
    `max_tokens` were drawn.
    """

    text: str
    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    finish: Finish


@dataclass
class Writer:
    """One row while it is written."""

    stream: TextStream
    ends: frozenset[int]
    pieces: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    finish: Finish = "length"

    def take(self, token: int, log_probability: float) -> tuple[str, bool]:
        """The text a token adds, and whether the row goes on."""
        self.tokens.append(token)
        self.log_probabilities.append(log_probability)
        if token in self.ends:
            self.finish = "end"
        else:
            self.pieces.append(self.stream.push(token))
            if self.stream.stopped:
                self.finish = "stop"
        return self.pieces[-1] if self.finish != "end" else "", self.finish == "length"

    def close(self) -> str:
        """The text that was waiting for more."""
        self.pieces.append(self.stream.finish())
        if self.stream.stopped:
            self.finish = "stop"
        return self.pieces[-1]

    def completion(self) -> Completion:
        return Completion(
            "".join(self.pieces), tuple(self.tokens), tuple(self.log_probabilities), self.finish
        )


def complete(
    model: AnyModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    max_tokens: int = 128,
    sampling: Sampling | None = None,
    stop: Sequence[str] = (),
    batch: int = BATCH,
) -> list[Completion]:
    """What the model writes after each prompt, or for each source where it is an encoder-decoder.

    `batch` rows are decoded at a time; which ones share a batch changes nothing but rounding.
    Raises ContextLengthError, LimitError or ConfigError before anything is computed.
    """
    sampling = (sampling or Sampling()).seeded()
    encoded, begin = encode(model, tokenizer, prompts, max_tokens)
    done: list[Completion] = []
    for first in range(0, len(encoded), batch):
        rows = range(first, min(first + batch, len(encoded)))
        writers = [Writer(TextStream(tokenizer, stop, after=prompts[row]), tokenizer.ends) for row in rows]
        part = encoded[rows.start : rows.stop]
        decoding = Decoding(
            model,
            part,
            max_tokens=max_tokens,
            sampling=sampling,
            rows=rows,
            vocab=tokenizer.vocab,
            begin=begin,
        )
        for _ in write(decoding, writers):
            pass
        done += [writer.completion() for writer in writers]
    return done


def stream(
    model: AnyModel,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_tokens: int = 128,
    sampling: Sampling | None = None,
    stop: Sequence[str] = (),
) -> Iterator[str]:
    """The text of `complete` for one prompt in pieces, each handed out as soon as it is certain.

    Raises like `complete`, at the call and not at the first piece.
    """
    encoded, begin = encode(model, tokenizer, [prompt], max_tokens)
    writer = Writer(TextStream(tokenizer, stop, after=prompt), tokenizer.ends)
    return pieces(model, tokenizer, encoded, writer, max_tokens, sampling, begin)


def stream_after(
    model: AnyModel,
    tokenizer: Tokenizer,
    tokens: Sequence[int],
    *,
    max_tokens: int = 128,
    sampling: Sampling | None = None,
    stop: Sequence[str] = (),
) -> Iterator[str]:
    """`stream` behind tokens, as those of a conversation, which are read as they are."""
    check_whole("max_tokens", max_tokens, 1, 2**31 - 1)
    check_prompts(model, [list(tokens)], max_tokens)
    writer = Writer(TextStream(tokenizer, stop), tokenizer.ends)
    return pieces(model, tokenizer, [list(tokens)], writer, max_tokens, sampling, None)


def pieces(
    model: AnyModel,
    tokenizer: Tokenizer,
    encoded: list[list[int]],
    writer: Writer,
    max_tokens: int,
    sampling: Sampling | None,
    begin: int | None,
) -> Iterator[str]:
    """What is written for one row, piece by piece."""
    decoding = Decoding(
        model,
        encoded,
        max_tokens=max_tokens,
        sampling=sampling or Sampling(),
        vocab=tokenizer.vocab,
        begin=begin,
    )
    return (piece for piece in write(decoding, [writer]) if piece)


def write(decoding: Decoding, writers: Sequence[Writer]) -> Iterator[str]:
    """Decodes until every row has ended, handing out each piece of text of any row."""
    going = list(writers)
    for _ in range(decoding.max_tokens):
        places = []
        for place, (token, log_probability) in enumerate(zip(*decoding.advance(), strict=True)):
            piece, goes_on = going[place].take(token, log_probability)
            yield piece
            if goes_on:
                places.append(place)
        if not places:
            break
        if len(places) < len(going):
            decoding.keep(places)
            going = [going[place] for place in places]
    for writer in writers:
        yield writer.close()


def encode(
    model: AnyModel, tokenizer: Tokenizer, prompts: Sequence[str], max_tokens: int
) -> tuple[list[list[int]], int | None]:
    """The tokens of each prompt, and the token every target begins with where the model is an
    encoder-decoder.

    A decoder reads a prompt behind what its tokenizer's template puts in front of a text. An empty prompt is
    the beginning of a document: what comes after that, or after an end token.
    """
    check_whole("max_tokens", max_tokens, 1, 2**31 - 1)
    if isinstance(prompts, str):
        raise ConfigError("give a list of prompts, also of one alone")
    if tokenizer is None:
        raise ConfigError("this model reads no text: it cannot write any")
    begin, ids_of = None, tokenizer.encode
    if isinstance(model, Pair):
        begin, ids_of = begin_token(tokenizer), partial(source_ids, tokenizer)
    encoded = [ids_of(prompt).tolist() for prompt in prompts]
    if begin is None:
        front = front_ids(tokenizer)
        first = front or ([] if tokenizer.end is None else [tokenizer.end])
        encoded = [[*front, *tokens] if tokens else first for tokens in encoded]
    check_prompts(model, encoded, max_tokens)
    return encoded, begin
