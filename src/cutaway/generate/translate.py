"""Sentences in, sentences out: encoded, searched by beams in batches of like length, decoded.

A source is the tokens of a sentence, with the end token where training put it (`source_ids`). A sentence
without a word has the empty translation, and no model is asked. A model that learned from text which
subword-nmt had cut reads plain text through the same codes.

L target position   M source position
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cutaway.data.begin import begin_token, source_ids
from cutaway.data.pairing import Codes, Lowering
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import ConfigError, LimitError
from cutaway.generate.align import Alignment, align
from cutaway.generate.beam import BATCH_TOKENS, translate_ids
from cutaway.generate.decode import positions, room
from cutaway.generate.prefixes import Hypothesis
from cutaway.models import AnyModel
from cutaway.models.pair import Pair

MOST_SOURCE = 4_096  # tokens of a sentence where the model itself has no limit: a search takes its square
MOST_TARGET = 2**31 - 1
BEAM = 5
FIRST_OF_SEVERAL = b"\xc0"  # from here on a byte of UTF-8 begins a character of two bytes or more
STRANGE = 0.5  # share of a source that is unknown from which on it is hardly what the model learned to read


@dataclass(frozen=True)
class Translation:
    """What was written for one sentence.

    `source` and `tokens` are ids, end tokens included; `log_probability` is the sum of theirs, `score` that
    over length^penalty. `ended` is false where the limit of tokens cut it off. `alternatives` are the others
    of the best, in falling order; `alignment` is there where it was asked for.
    """

    text: str
    source: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    score: float = 0.0
    log_probability: float = 0.0
    ended: bool = True
    alternatives: tuple["Translation", ...] = ()
    alignment: Alignment | None = None


class Translator:
    """A model, its tokenizer and what is asked of the search.

    `max_tokens` limits every target; without it one and a half times the source and 20 more. `codes` cut
    each sentence, whose words and marks have spaces between (Moses' tokenizer). Raises ConfigError for a
    model that is no encoder-decoder, and for codes where text was not cut by any; LimitError for a tokenizer
    without start or end.
    """

    def __init__(
        self,
        model: AnyModel,
        tokenizer: Tokenizer,
        *,
        beam: int = BEAM,
        length_penalty: float = 1.0,
        max_tokens: int | None = None,
        best: int = 1,
        batch_tokens: int = BATCH_TOKENS,
        codes: Codes | None = None,
    ):
        if not isinstance(model, Pair):
            raise ConfigError("this model continues texts: translating needs an encoder-decoder")
        if codes is not None and tokenizer.kind != "marked":
            raise ConfigError("codes: this model did not learn from text that codes had cut; leave them out")
        if tokenizer.end is None:
            raise LimitError("this tokenizer has no end token: a translation would never end")
        self.model, self.tokenizer, self.end, self.codes = model, tokenizer, tokenizer.end, codes
        self.begin, self.max_tokens = begin_token(tokenizer), max_tokens
        self.search = {
            "beam": beam,
            "best": best,
            "length_penalty": length_penalty,
            "batch_tokens": batch_tokens,
        }
        self.special = frozenset(tokenizer.special)
        unknown = () if tokenizer.unknown is None else (tokenizer.unknown,)
        self.forbidden = sorted(self.special.union(unknown) - {self.end})
        self.most = min(MOST_SOURCE, positions(model.source) or MOST_SOURCE)

    def encode(self, sentence: str) -> list[int]:
        """The source of a sentence, nothing for one without a word.

        Raises LimitError for a character without a token, and for a sentence that is too long.
        """
        if not sentence.strip():
            return []
        source = source_ids(self.tokenizer, self._cut(sentence)).tolist()
        if len(source) > self.most:
            raise LimitError(
                f"{len(source)} tokens, but at most {self.most} can be translated: cut it in two"
            )
        return source

    def encode_all(self, sentences: Sequence[str]) -> list[list[int]]:
        """The source of each sentence; raises LimitError naming the first one that has none, ConfigError for
        a single text in place of several.
        """
        if isinstance(sentences, str):
            raise ConfigError("give a list of sentences, also of one alone")
        sources = []
        for number, sentence in enumerate(sentences):
            try:
                sources.append(self.encode(sentence))
            except LimitError as problem:
                raise LimitError(f"sentence {number}: {problem}") from None
        return sources

    def doubt(self, source: Sequence[int]) -> str | None:
        """Why a source is hardly what the model learned to read, None where nothing speaks for that."""
        share = self.unknown_share(source)
        if share <= STRANGE:
            return None
        parts, question = "tokens", "is it of the right language?"
        if self.tokenizer.unknown is None:
            parts = "characters"
        elif self.tokenizer.kind == "marked" and self.codes is None:
            question = f"was it cut, as this model's text was (--codes), and {question}"
        elif self.tokenizer.kind == "marked":
            question = f"was it tokenised, as the text of the codes was, and {question}"
        return f"{share:.0%} of its {parts} are unknown to the model: {question}"

    def unknown_share(self, source: Sequence[int]) -> float:
        """Which share of a source's tokens stands for anything the tokenizer has no token for.

        A byte-level vocabulary has tokens for all; of it, which share of the characters, spaces left out,
        begins with a token of that one byte: the texts it learned from hold none of them, or few.
        """
        if self.tokenizer.unknown is not None:
            return source.count(self.tokenizer.unknown) / max(1, len(source) - 1)
        read = [self.tokenizer.token_bytes(number) for number in source]
        characters = len("".join(b"".join(read).decode("utf-8", "replace").split()))
        return sum(len(data) == 1 and data >= FIRST_OF_SEVERAL for data in read) / max(1, characters)

    def translate(self, sources: Sequence[Sequence[int]]) -> list[Translation]:
        """The best translation of each source, the others of the best inside it."""
        worded = [source for source in sources if source]
        written = translate_ids(
            self.model,
            worded,
            begin=self.begin,
            end=self.end,
            max_tokens=[self._limit(source) for source in worded],
            vocab=self.tokenizer.vocab,
            forbidden=self.forbidden,
            **self.search,
        )
        found = iter(zip(worded, written, strict=True))
        return [self._translation(*next(found)) if source else Translation("") for source in sources]

    def align(self, translations: Sequence[Translation]) -> list[Translation]:
        """The same translations with the alignment of each; raises ConfigError like `align`."""
        worded = [each for each in translations if each.tokens]
        aligned = iter(
            align(
                self.model,
                [each.source for each in worded],
                [each.tokens for each in worded],
                begin=self.begin,
                special=self.special,
                batch_tokens=self.search["batch_tokens"],
            )
        )
        return [replace(each, alignment=next(aligned)) if each.tokens else each for each in translations]

    def _cut(self, sentence: str) -> str:
        if self.codes is None:
            return sentence
        # Codes that were learned from lower case leave capitals as single letters.
        return self.codes.apply(sentence.lower() if isinstance(self.tokenizer, Lowering) else sentence)

    def _limit(self, source: Sequence[int]) -> int:
        if self.max_tokens is not None:
            return self.max_tokens
        return room(self.model.written, len(source) * 3 // 2 + 20)

    def _translation(self, source: Sequence[int], hypotheses: Sequence[Hypothesis]) -> Translation:
        first, *others = (
            Translation(
                self.tokenizer.decode(found.tokens),
                tuple(source),
                found.tokens,
                found.score,
                found.log_probability,
                found.ended,
            )
            for found in hypotheses
        )
        return replace(first, alternatives=tuple(others))


def translate(
    model: AnyModel, tokenizer: Tokenizer, sentences: Sequence[str], *, beam: int = BEAM
) -> list[Translation]:
    """The best translation of each sentence, in order; raises LimitError naming one that has none."""
    asked = Translator(model, tokenizer, beam=beam)
    return asked.translate(asked.encode_all(sentences))
