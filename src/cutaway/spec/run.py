"""How a model is trained, as data: the data, the optimiser, the schedule, and what the machine should do.

Nothing here changes what function the model is; `spec.model` says that.
"""

from dataclasses import dataclass, field
from typing import Literal

from cutaway.spec.model import Head, Model


class Data:
    """Slot: where training examples come from."""


class Optimizer:
    """Slot: how gradients become steps."""


class Schedule:
    """Slot: how the rate changes over the steps."""


@dataclass(frozen=True)
class Text(Data):
    """Text for next-token prediction. `source`: files, folders, .gz, or `stdlib:` (this Python's source).

    `split`: `file` puts whole documents aside by a hash of their names, `tail` the last characters.
    `general`: a source of another kind, judged at the end and never learned: what is forgotten shows there.
    """

    source: tuple[str, ...]
    tokenizer: Literal["bytes", "characters", "bpe"] = "bpe"
    vocab: int = 4096
    split: Literal["file", "tail"] = "file"
    validation: float = 0.1
    general: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conversations(Data):
    """Conversations, one a line: files of JSON objects with `messages`, each a table of `role` and `content`.

    They are read as the chat template of the recipe's `start` renders them; only what the assistant says, the
    end of its turn included, is learned. Of one longer than `run.length` tokens the beginning counts.
    `validation` is the share put aside by a hash of the messages.
    """

    source: tuple[str, ...]
    validation: float = 0.1


@dataclass(frozen=True)
class Reversal(Data):
    """Made-up strings to be reversed or sorted, `shortest` to `longest` long, over `letters` letters.

    Up to three lengths between the two are kept from training, to be judged by.
    """

    letters: int = 26
    shortest: int = 1
    longest: int = 20


@dataclass(frozen=True)
class Parallel(Data):
    """Pairs of sentences in two languages, a line each: the files `train`, `validation` and `test` of a
    `folder`, with the language as ending, as in train.de and train.en, or with .gz behind that.

    `tokenizer` "bpe" learns one byte-pair encoding of `vocab` for both sides; "marked" takes the words of a
    text that is cut already, with `@@` where a word goes on (subword-nmt). A step reads `run.batch` tokens at
    most, of source or of target, padding counted. Training leaves out pairs with a side of more than
    `run.length` tokens. Where `test` is empty, only the validation part is judged.
    """

    folder: str
    source: str = "de"
    target: str = "en"
    train: str = "train"
    validation: str = "val"
    test: str = ""
    tokenizer: Literal["bpe", "marked"] = "bpe"
    vocab: int = 8000
    lower: bool = False


@dataclass(frozen=True)
class MaskedText(Data):
    """Text with some of its tokens hidden, to be told from both sides (BERT, Devlin et al. 2018).

    A `source` that begins with `labelled:` is a file as `Labelled` reads them: its sentences, each a document
    of its own, without their labels.
    `rule`: "literal" hides each token with the chance `share`, as algorithm 12 of Phuong & Hutter does;
    "bert" puts the mask in eight of ten places, any token in one, and leaves one as it is.
    """

    source: tuple[str, ...]
    tokenizer: Literal["bytes", "characters", "bpe"] = "bpe"
    vocab: int = 4096
    split: Literal["file", "tail"] = "file"
    validation: float = 0.1
    share: float = 0.15
    rule: Literal["literal", "bert"] = "bert"


@dataclass(frozen=True)
class Labelled(Data):
    """Sentences to be sorted into classes: files of a `folder`, each line a label and a sentence.

    Where `validation` is empty, it is one sentence in ten of `train`, by a hash of its text.
    """

    folder: str
    train: str
    test: str
    validation: str = ""
    tokenizer: Literal["bytes", "characters", "bpe"] = "bpe"
    vocab: int = 4096


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters (Hu et al. 2021): W x becomes W x + (alpha / rank) B A dropout(x), W stands still.

    `targets` names the matrices W, such as `blocks.*.attn.query` or `**.ffn.*`; where it names none, all four
    of every attention. `whole` names parameters that are trained as they are, as a new head must be.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Loshchilov & Hutter 2019. Only matrices decay."""

    rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    decay: float = 0.1


@dataclass(frozen=True)
class Muon(Optimizer):
    """Jordan et al. 2024 for the matrices inside blocks and recurrent or convolutional layers, and what they
    attend with; `others` for all the rest.
    """

    rate: float = 0.02
    momentum: float = 0.95
    decay: float = 0.0
    others: AdamW = field(default_factory=lambda: AdamW(rate=4e-3, decay=0.0))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Linear warm-up over `warmup` steps, then a cosine down to `floor` times the rate."""

    warmup: int = 100
    floor: float = 0.1


@dataclass(frozen=True)
class StableDecay(Schedule):
    """Linear warm-up over `warmup` steps, flat, then linear to `floor` over the last share `decay`."""

    warmup: int = 0
    decay: float = 0.5
    floor: float = 0.0


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """Linear warm-up over `warmup` steps, then falling with the square root of the step (Vaswani et al.
    2017).
    """

    warmup: int = 2000


@dataclass(frozen=True)
class Run:
    """One training run. `length` tokens an example, `batch` examples a step in `accumulate` parts.

    `precision` and `compile` auto choose what this machine does faster, but `compile` auto compiles neither
    a Paired nor what sorts sentences. Every `evaluate`, `save` and `sample` steps the validation loss is
    taken, a checkpoint written, a text sampled; 0 only at the end. `threads` 0 takes every core. `device`
    auto takes a GPU where there is one. Labels are smoothed by `smoothing` (Szegedy et al. 2015). The
    `average` last checkpoints are averaged at the end (1: the last alone). Training ends early after
    `patience` evaluations without a lower loss on the validation sample (0: never), whatever BLEU or accuracy
    do, and then goes back to the lowest.
    """

    steps: int = 1000
    batch: int = 32
    length: int = 256
    accumulate: int = 1
    seed: int = 0
    clip: float | None = 1.0
    optimizer: Optimizer = field(default_factory=Muon)
    schedule: Schedule = field(default_factory=StableDecay)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    evaluate: int = 0
    save: int = 0
    sample: int = 0
    smoothing: float = 0.0
    average: int = 1
    patience: int = 0


@dataclass(frozen=True)
class Recipe:
    """All that names a run: which model, on which data, trained how. What a `recipe.toml` holds.

    `start` is what the training begins with, anything `cutaway.load` takes: its weights, all but a head of
    another kind, and its tokenizer. Where `model` is left out, it is that of the start, with another `head`
    if one is given. An `adapter` is trained in place of the weights; `frozen` names parameters that stand
    still, as in `input.**` or `blocks.0.**`.
    """

    name: str
    model: Model | None
    data: Data
    run: Run = field(default_factory=Run)
    start: str = ""
    head: Head | None = None
    adapter: LoRA | None = None
    frozen: tuple[str, ...] = ()
