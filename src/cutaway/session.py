"""What `cutaway.load` returns: a model, its tokenizer, and what one does with the two.

B batch   D width
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway import spec
from cutaway.allocator import keep_large_buffers
from cutaway.data.chat import encode_chat
from cutaway.data.pairing import Codes, Lowering
from cutaway.data.template import Message
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import ConfigError
from cutaway.generate import Completion, complete, stream
from cutaway.generate.compiled import compile_steps
from cutaway.generate.complete import stream_after
from cutaway.generate.embed import embed
from cutaway.generate.fill import Guess, fill
from cutaway.generate.sample import chosen
from cutaway.generate.translate import BEAM, Translation, Translator
from cutaway.models import AnyModel
from cutaway.study.score import Loss, loss_of
from cutaway.train.classifying import class_chances
from cutaway.weights.export import save_pretrained
from cutaway.weights.loading import read_any
from cutaway.weights.peft import read_adapter, save_adapter

DEFAULT_TOKENS = 128


@dataclass(frozen=True)
class Session:
    """A model in evaluation mode and its tokenizer.

    `length` is the training length and `step` the number of steps the weights took, None where unknown.
    `labels` are the names of the classes that it sorts into, `template` renders conversations, `pool` is how
    an encoder of sentences makes one vector of a text.
    """

    model: AnyModel
    tokenizer: Tokenizer
    length: int | None = None
    path: Path | None = None
    step: int | None = None
    labels: tuple[str, ...] = ()
    template: str | None = None
    pool: str = "mean"

    @property
    def spec(self) -> spec.Model:
        """What the model is, as data."""
        return self.model.plan

    def generate(
        self,
        prompt: str | Sequence[str],
        max_tokens: int = DEFAULT_TOKENS,
        *,
        stop: Sequence[str] = (),
        **choices: Any,
    ) -> str | list[str]:
        """The text written after a prompt, or for a source where the model is a pair; a list for several.

        `choices` are those of `Sampling`: temperature, top_k, top_p, min_p, repetition_penalty, seed.
        Raises ContextLengthError, LimitError or ConfigError before anything is computed.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        texts = [found.text for found in self.complete(prompts, max_tokens, stop=stop, **choices)]
        return texts[0] if isinstance(prompt, str) else texts

    def compile(self) -> "Session":
        """Compile the steps of decoding from now on, where one text is written at a time; returns itself.

        The first tokens take a quarter of a minute, less where the compiler's cache knows the model; then a
        processor writes 1.4 to 2.2 times as fast in fp32: worth it from some hundred tokens on. Raises as
        `compile_steps` does.
        """
        compile_steps(self.model)
        return self

    def complete(
        self,
        prompts: Sequence[str],
        max_tokens: int = DEFAULT_TOKENS,
        *,
        stop: Sequence[str] = (),
        **choices: Any,
    ) -> list[Completion]:
        """`generate` with everything that is known: tokens, their log-probabilities, why each text ended."""
        asked = chosen(choices)
        return complete(self.model, self.tokenizer, prompts, max_tokens=max_tokens, sampling=asked, stop=stop)

    def stream(
        self, prompt: str, max_tokens: int = DEFAULT_TOKENS, *, stop: Sequence[str] = (), **choices: Any
    ) -> Iterator[str]:
        """The text of `generate` in pieces, each as soon as it is certain."""
        asked = chosen(choices)
        return stream(self.model, self.tokenizer, prompt, max_tokens=max_tokens, sampling=asked, stop=stop)

    def chat(
        self,
        messages: Sequence[Message],
        max_tokens: int = DEFAULT_TOKENS,
        *,
        stop: Sequence[str] = (),
        **choices: Any,
    ) -> Iterator[str]:
        """The assistant's answer to a conversation, in pieces; messages have a `role` and `content`.

        Raises ConfigError where the model came without a chat template, and as `encode_chat` and `stream` do;
        warns of a conversation of more tokens than the model was trained for, if it has positions for them.
        """
        if self.template is None:
            raise ConfigError("chat: this model came without a chat template; use generate")
        asked = chosen(choices)
        ids = encode_chat(self.tokenizer, self.template, messages, add_generation_prompt=True).ids.tolist()
        answer = stream_after(
            self.model, self.tokenizer, ids, max_tokens=max_tokens, sampling=asked, stop=stop
        )
        if self.length is not None and len(ids) > self.length:
            told = f"chat: longer than the {self.length:,} tokens this model was trained for"
            warnings.warn(f"{told}; answers may make no sense, begin a new conversation", stacklevel=2)
        return answer

    def translate(self, sentence: str | Sequence[str], **choices: Any) -> str | list[str]:
        """The translation of a sentence; a list for several. `choices` are those of `translations`."""
        sentences = [sentence] if isinstance(sentence, str) else list(sentence)
        texts = [found.text for found in self.translations(sentences, **choices)]
        return texts[0] if isinstance(sentence, str) else texts

    def translations(
        self,
        sentences: Sequence[str],
        *,
        beam: int = BEAM,
        length_penalty: float = 1.0,
        max_tokens: int | None = None,
        best: int = 1,
        align: bool = False,
        codes: str | Path | None = None,
    ) -> list[Translation]:
        """`translate` with everything that is known: tokens, scores, the others of the `best`, alignments.

        `codes` is a file of subword-nmt's, by which tokenised sentences are cut for a model that reads them
        so. Raises ConfigError for a model that is no encoder-decoder, or one that does not read cut text but
        was given codes; LimitError for a sentence it cannot read.
        """
        asked = Translator(
            self.model,
            self.tokenizer,
            beam=beam,
            length_penalty=length_penalty,
            max_tokens=max_tokens,
            best=best,
            codes=None if codes is None else Codes(codes),
        )
        found = asked.translate(asked.encode_all(sentences))
        return asked.align(found) if align else found

    def fill(self, text: str, best: int = 5) -> list[list[Guess]]:
        """For each `[MASK]` of a text the likeliest tokens, best first; raises as `generate.fill` does."""
        return fill(self.model, self.tokenizer, text, best)

    def embed(
        self,
        texts: str | Sequence[str],
        pool: str | None = None,
        normalise: bool = True,
    ) -> Tensor:
        """A vector for each text, (B, D), or (D,) for one: the mean of the last vectors, or with pool="cls"
        the first, None as the model's folder says. Of a text longer than `length` the beginning counts;
        raises as `generate.embed` does.
        """
        asked = [texts] if isinstance(texts, str) else list(texts)
        found_BD = embed(
            self.model,
            self.tokenizer,
            asked,
            pool=self.pool if pool is None else pool,
            normalise=normalise,
            length=self.length,
        )
        return found_BD[0] if isinstance(texts, str) else found_BD

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes the model and its tokenizer as a new Hugging Face folder, which transformers reads; adapters
        are merged into the weights.

        Raises ConfigError, naming what does not fit, for a model without a published architecture.
        """
        return save_pretrained(
            self.model,
            self.tokenizer,
            folder,
            length=self.length,
            labels=self.labels,
            origin=self.path,
            template=self.template,
        )

    def save_adapter(self, folder: str | Path, base: str = "") -> Path:
        """Writes the adapters alone, as a new folder that `peft.PeftModel.from_pretrained` reads; `base` is
        what that should take for the model they belong to.

        Raises ConfigError for a model without adapters, or one that peft could not adapt alike.
        """
        return save_adapter(self.model, folder, base=base, length=self.length)

    def classify(self, text: str | Sequence[str]) -> dict[str, float] | list[dict[str, float]]:
        """The probability of each class, by its label; a list for several texts.

        Of a text longer than the training length the beginning counts. Raises ConfigError for a model that
        was not trained on labelled sentences.
        """
        if not self.labels or self.tokenizer is None:
            raise ConfigError(
                "classes: not trained on labelled sentences (data Labelled); one score, a regression, is none"
            )
        if len(set(self.labels)) < len(self.labels):
            raise ConfigError("classes: two have one name; tell them apart under id2label in config.json")
        texts = [text] if isinstance(text, str) else list(text)
        chances = class_chances(self.model, self.tokenizer, texts, self.length).tolist()
        found = [dict(zip(self.labels, row, strict=True)) for row in chances]
        return found[0] if isinstance(text, str) else found

    def loss(self, text: str, per_token: bool = False) -> Loss:
        """How well the model predicts a text, windows of the training length; raises as `loss_of` does."""
        return loss_of(self.model, self.tokenizer, text, length=self.length, per_token=per_token)


def load(
    path: str | Path,
    *,
    step: int | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    adapter: str | Path | None = None,
) -> Session:
    """A session with the model of a run directory (its newest checkpoint, or the one at `step`), of a
    checkpoint, of a Hugging Face folder or hub id, or of a GGUF or llama2.c file.

    `dtype` is "fp32" or "bf16", None as saved, fp32 for one file. What learned from pairs in lower case reads
    all text so. `adapter` is a folder in peft's layout with low-rank adapters of this model. Raises
    InputMissingError where there is nothing of the kind, and FileFormatError, naming file and rule, where it
    is damaged. What a folder says beyond what is understood is told as a warning.
    """
    keep_large_buffers()
    found = read_any(path, step=step, device=device, dtype=dtype)
    for notice in found.notices:
        warnings.warn(notice, stacklevel=2)
    if adapter is not None:
        read_adapter(found.model, adapter)
    known: Any = found.tokenizer
    if found.recipe is not None and isinstance(found.recipe.data, spec.Parallel) and found.recipe.data.lower:
        known = Lowering(known.inner)
    path, step, labels = found.path, found.step, found.labels
    return Session(found.model, known, found.length, path, step, labels, found.template, found.pool)
