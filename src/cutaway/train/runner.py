"""One run, from recipe to report: what `cutaway train` does.

A run is a directory: `recipe.toml` (resolved), `spec.json`, `tokenizer.json`, `facts.json`, `metrics.jsonl`,
`checkpoints/`, and, written by whoever called, `report.html`.
"""

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from cutaway import spec, store
from cutaway.allocator import keep_large_buffers
from cutaway.data import tokenizer
from cutaway.errors import ConfigError, InputMissingError, OutputExistsError
from cutaway.models import AnyModel, build
from cutaway.spec.read import read_recipe
from cutaway.spec.write import write_model, write_recipe
from cutaway.train import checkpoint
from cutaway.train.choose import Choice, choose, compile_blocks
from cutaway.train.facts import differing, gather_facts
from cutaway.train.flops import training_flops
from cutaway.train.loop import Step, Training
from cutaway.train.measure import peak_flops
from cutaway.train.optim import Optimizers
from cutaway.train.precision import Working
from cutaway.train.progress import Reporter, Silent
from cutaway.train.signals import RunInterruptedError, Signals, StoppedError
from cutaway.train.task import Task, make_task

Sampler = Callable[[AnyModel, tokenizer.Tokenizer], str]


@dataclass
class Result:
    """A finished run: where it is, what it reached, and what it took."""

    out: Path
    figures: dict[str, float]
    facts: dict[str, object]
    counters: dict[str, float] = field(default_factory=dict)


class Runner:
    """Prepares a run's directory, model and task, and takes them through training."""

    def __init__(
        self, recipe: spec.Recipe, out: Path, *, say: Reporter | None = None, sampler: Sampler | None = None
    ):
        self.out, self.say, self.sampler = Path(out), say or Silent(), sampler
        self.recipe, self.facts = recipe, {}
        self.counters = {"seconds": 0.0, "tokens": 0.0}
        self.validation: float | None = None

    def train(self, resume: bool = False) -> Result:
        """Train to the end. `resume` goes on from the newest whole checkpoint of the directory.

        Raises OutputExistsError where the directory holds a run already, RunLockedError where it is in use,
        RunInterruptedError (exit code 128 + signal) once a signal's checkpoint is written, NonFiniteError,
        CheckpointSaveError.
        """
        keep_large_buffers()
        if resume and not (self.out / "recipe.toml").exists():
            raise InputMissingError(
                f"{self.out}: no run to go on with; check the path or train without --resume"
            )
        if not resume and (self.out / "recipe.toml").exists():
            raise OutputExistsError(
                f"{self.out}: holds a run already; go on with --resume or choose another --out"
            )
        with store.DirectoryLock(self.out), Signals() as signals:
            store.sweep(self.out)
            store.sweep(self.out / "checkpoints")
            try:
                training, task = self.resume() if resume else self.begin()
                signals.check()
                return self.advance(training, task, signals)
            except StoppedError:
                raise RunInterruptedError(
                    signals.caught or 0, f"{self.out}: stopped before training began"
                ) from None

    def begin(self) -> tuple[Training, Task]:
        """Make the task and the model, choose how to compute, write the directory's fixed files."""
        recipe = self.recipe
        task = make_task(recipe.data, recipe.run)
        model = build(with_vocab(recipe.model, task.vocab), recipe.run.seed)
        recipe = self.recipe = replace(recipe, model=model.plan)
        choice = choose(model, recipe.run, mean_length(recipe))
        self.facts = {
            **gather_facts(),
            **choice.facts(),
            "seed": recipe.run.seed,
            "data": task.digest,
            "tokenizer": task.tokenizer.digest,
            "parameters": sum(p.numel() for p in model.parameters()),
        }
        store.write_file(self.out / "tokenizer.json", task.tokenizer.to_json().encode())
        store.write_file(
            self.out / "spec.json", (json.dumps(write_model(model.plan), indent=1) + "\n").encode()
        )
        store.write_file(self.out / "facts.json", (json.dumps(self.facts, indent=1) + "\n").encode())
        store.write_file(self.out / "recipe.toml", write_recipe(recipe).encode())
        return self.training(model, task, choice), task

    def resume(self) -> tuple[Training, Task]:
        """Stand where the newest whole checkpoint was written."""
        self.recipe = recipe = read_recipe(self.out / "recipe.toml")
        self.facts = json.loads((self.out / "facts.json").read_text())
        if changed := differing(self.facts, gather_facts()):
            warnings.warn(f"going on, but not to the last bit: {'; '.join(changed)}", stacklevel=2)
        task = make_task(recipe.data, recipe.run, tokenizer.load_tokenizer(self.out / "tokenizer.json"))
        if task.digest != self.facts["data"]:
            raise ConfigError(
                f"{self.out}: the text has changed since the run began: restore it or begin a new run"
            )
        choice = Choice(*(self.facts[name] for name in ("precision", "compile", "threads")))
        torch.set_num_threads(choice.threads)
        training = self.training(build(recipe.model, recipe.run.seed), task, choice)
        if checkpoint.list_checkpoints(self.out):
            found = checkpoint.load_checkpoint(checkpoint.newest_checkpoint(self.out), training)
            self.counters.update({k: v for k, v in found.items() if k in self.counters})
        store.keep_lines(self.out / "metrics.jsonl", lambda line: json.loads(line)["step"] <= training.done)
        return training, task

    def training(self, model: AnyModel, task: Task, choice: Choice) -> Training:
        """The loop over this model and task."""
        working = Working(model, choice.dtype)
        if choice.compile == "on":
            compile_blocks(working.model)
        return Training(working, task, Optimizers(model, self.recipe.run.optimizer), self.recipe.run)

    def advance(self, training: Training, task: Task, signals: Signals) -> Result:
        """Train, and look, sample and save when it is time."""
        run, choice = self.recipe.run, self.facts
        peak, model = peak_flops(str(choice["precision"])), training.working.master
        flops = training_flops(model, mean_length(self.recipe))
        self.say.say(
            f"{self.recipe.name}: {self.facts['parameters']:,} parameters, {run.steps} steps, "
            f"{choice['precision']}, compile {choice['compile']}, {choice['threads']} threads -> {self.out}"
        )
        try:
            for step in training:
                self.note(step, training, flops, peak)
                last = step.number == run.steps
                if due(run.evaluate, step.number) and not last:
                    self.record(step.number, task.glance(training.working.model.eval(), signals.check))
                if due(run.sample, step.number) and not last:
                    self.sample(step.number, training.working.master, task)
                if due(run.save, step.number) or last:
                    self.save(training)
                signals.check()
            figures = self.finish(training, task, signals)
        except StoppedError:
            self.save(training)
            self.say.close()
            number = signals.caught or 0
            message = f"{self.out}: signal {number} after step {training.done}, saved; go on with --resume"
            raise RunInterruptedError(number, message) from None
        self.say.close()
        return Result(self.out, figures, self.facts, dict(self.counters))

    def finish(self, training: Training, task: Task, signals: Signals) -> dict[str, float]:
        """Judge the fp32 weights on the whole validation data."""
        begin = time.perf_counter()
        figures = task.judge(training.working.master.eval(), signals.check)
        done = [json.loads(line) for line in store.read_lines(self.out / "metrics.jsonl")]
        if not any("validation" in line for line in done):
            self.record(training.done, figures)
            self.sample(training.done, training.working.master, task)
        self.say.say(f"judged in {time.perf_counter() - begin:.1f} s")
        return figures

    def note(self, step: Step, training: Training, flops: float, peak: float) -> None:
        """Write and show one step's figures."""
        self.counters["seconds"] += step.seconds
        self.counters["tokens"] += step.tokens
        loss, rate = step.loss.item(), step.tokens / step.seconds
        line = {"step": step.number, "loss": loss, "grad_norm": step.grad_norm.item(), "rate": step.rate}
        if step.skipped:
            line["skipped"] = True
            self.say.say(f"step {step.number}: loss or gradient not finite, weights left as they were")
        self.append(line | {"tokens": self.counters["tokens"], "seconds": round(self.counters["seconds"], 4)})
        figures = {"loss": loss, "tokens_per_second": rate}
        if self.validation is not None:
            figures["validation"] = self.validation
        if peak:
            figures["share_of_peak"] = rate * flops / peak
        self.say.step(step.number, figures)

    def record(self, step: int, figures: dict[str, float]) -> None:
        """Write an evaluation."""
        self.validation = figures.get("validation", figures.get("validation_sample"))
        self.append({"step": step, **figures})

    def sample(self, step: int, model: AnyModel, task: Task) -> None:
        """Write a text the model makes, if somebody gave a way to make one."""
        if self.sampler is not None:
            self.append({"step": step, "sample": self.sampler(model.eval(), task.tokenizer)})

    def append(self, line: dict[str, object]) -> None:
        """One line of metrics."""
        store.append_line(self.out / "metrics.jsonl", json.dumps(line))

    def save(self, training: Training) -> None:
        """A checkpoint of the last finished step; the metrics up to it reach the disk first."""
        if training.done:
            store.sync_file(self.out / "metrics.jsonl")
            checkpoint.save_checkpoint(self.out, training, self.counters)


def due(every: int, step: int) -> bool:
    """Whether something that happens every so many steps (0: never) happens after this one."""
    return every > 0 and step % every == 0


def with_vocab(model: spec.Model, vocab: int) -> spec.Model:
    """The spec with the vocabulary its data turned out to have."""
    match model:
        case spec.Single(input=spec.Tokens()):
            return replace(model, input=replace(model.input, vocab=vocab))
        case spec.Paired(source=spec.Tokens()):
            return replace(model, source=replace(model.source, vocab=vocab))
        case _:
            raise ConfigError(
                "this data trains models that read tokens: Single or Paired with an input of Tokens"
            )


def mean_length(recipe: spec.Recipe) -> int:
    """Positions an example has, for timing and for counting arithmetic."""
    data = recipe.data
    return (data.shortest + data.longest) // 2 + 1 if isinstance(data, spec.Reversal) else recipe.run.length
