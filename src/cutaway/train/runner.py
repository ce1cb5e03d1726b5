"""One run, from recipe to trained weights: what `cutaway train` does.

A run is a directory: the fixed files of `cutaway.train.records`, `metrics.jsonl`, `checkpoints/`, and,
written by whoever called, `report.html`.
"""

import json
import math
import os
from collections.abc import Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals as Names

import torch

from cutaway import spec, store
from cutaway.allocator import keep_large_buffers
from cutaway.errors import ConfigError, CutawayError, SaveError
from cutaway.models import AnyModel, build
from cutaway.train import checkpoint, records, settle
from cutaway.train.begin import asked, begin
from cutaway.train.choose import Choice, compile_blocks
from cutaway.train.facts import differing, gather_facts
from cutaway.train.flops import training_cost
from cutaway.train.loop import Step, Training
from cutaway.train.measure import peak_flops
from cutaway.train.memory import told_when_full
from cutaway.train.optim import Optimizers
from cutaway.train.precision import Working
from cutaway.train.progress import Reporter, Silent
from cutaway.train.signals import RunInterruptedError, Signals, StoppedError
from cutaway.train.start import leave_to_train, take_again
from cutaway.train.task import Task
from cutaway.train.tasks import details_of, labels_of, make_task
from cutaway.weights.run import assign_frozen, whole_checkpoint


@dataclass
class Result:
    """A finished run: where it is, what it reached, and what it took. `cutaway.load` takes it like a path.

    `details` tells of figures by name how they were counted, where a number alone does not say.
    """

    out: Path
    figures: dict[str, float]
    facts: dict[str, object]
    counters: dict[str, float] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    def __fspath__(self) -> str:
        return os.fspath(self.out)


class Runner:
    """Prepares a run's directory, model and task, and takes them through training."""

    def __init__(self, recipe: spec.Recipe, out: Path, *, say: Reporter | None = None):
        self.recipe, self.out = recipe, Path(out)
        self.say: Reporter = say or Silent()
        self.facts: dict[str, object] = {}
        self.choice = Choice("fp32", "off", 1)
        self.counters = {"seconds": 0.0, "tokens": 0.0}
        self.validation: float | None = None
        self.noted = 0  # the last step of this process whose figures are written
        self.written: Set[str] = frozenset()  # what metrics.jsonl has of the step that training stands at

    def train(self, resume: bool = False) -> Result:
        """Train to the end. `resume` goes on from the newest whole checkpoint of the directory.

        Raises OutputExistsError where the directory holds a run already, InputMissingError where there is
        none to go on with, RunLockedError where it is in use, RunInterruptedError (exit code 128 + signal)
        once a signal's checkpoint is written, NonFiniteError, CheckpointSaveError. Whatever is raised between
        two steps, the last whole one is saved first; a SaveError, and a second signal inside an update or a
        save, leave what was saved before. A run that cannot begin leaves the directory as it was.
        """
        keep_large_buffers()
        try:
            if resume:
                records.check_begun(self.out)
            full = told_when_full(self.out, lambda: self.recipe.run)
            with store.DirectoryLock(self.out), Signals() as signals, full:
                store.sweep(self.out)
                store.sweep(self.out / checkpoint.FOLDER)
                training, task = self.resume() if resume else self.begin()
                signals.hold()
                return self.advance(training, task, signals)
        except StoppedError as stopped:
            name = Names(stopped.number).name
            raise RunInterruptedError(
                stopped.number, f"{self.out}: {name} before training began, nothing is lost"
            ) from None
        finally:
            self.say.close()

    def begin(self) -> tuple[Training, Task]:
        """Make the task and the model, choose how to compute, write the directory's fixed files."""
        made = begin(self.recipe, self.out, self.say)
        self.recipe, self.choice = made.recipe, made.choice
        training = self.training(made.model, made.task)  # whatever can fail comes before the first file
        self.facts = made.write(self.out)
        return training, made.task

    def resume(self) -> tuple[Training, Task]:
        """Stand where the newest whole checkpoint was written."""
        found = records.read_records(self.out)
        self.recipe, self.facts, self.choice = found.recipe, found.facts, found.choice
        if found.edited:
            self.say.warn(f"{self.out}: recipe.toml has changed since the run began; its steps will, too")
        if changed := differing(found.facts, gather_facts()):
            self.say.warn(f"{self.out}: going on, but not to the last bit: {'; '.join(changed)}")
        task = make_task(found.recipe.data, found.recipe.run, found.tokenizer, found.template)
        if task.digest != found.facts["data"]:
            raise ConfigError(
                f"{self.out}: the text has changed since the run began: restore it or begin a new run"
            )
        plan = asked(self.recipe)
        task.fitted(plan)  # an edited recipe.toml may ask for what does not fit
        self.choice.take()
        model = build(plan, self.recipe.run.seed)
        checkpoint.bring_back(self.out)
        folder, problems = whole_checkpoint(self.out)
        if folder is None:
            take_again(self.recipe, found.facts, model, labels_of(task))
        leave_to_train(model, self.recipe, [])
        assign_frozen(model, self.out)
        training = self.training(model, task)
        if folder is not None:
            self.counters |= checkpoint.load_checkpoint(folder, training)
            run = self.recipe.run
            if found.edited and (run.patience or training.done < run.steps):  # it may ask for more of either
                self.counters.pop(settle.ENDED, None)
            for problem in problems:
                self.say.warn(f"{problem}; going on from the checkpoint before it, {folder.name}")
            checkpoint.put_aside(self.out, folder)
        settle.forget_later(self.out, training.done)
        self.written, unreadable = records.keep_metrics(self.out, training.done)
        if unreadable:
            self.say.warn(f"{self.out / records.METRICS}: {unreadable} unreadable lines are gone")
        self.say.say(f"{self.recipe.name}: going on after step {training.done}")
        return training, task

    def training(self, model: AnyModel, task: Task) -> Training:
        """The loop over this model and task."""
        working = Working(model.to(self.choice.device), self.choice.dtype)
        if self.choice.compile == "on":
            compile_blocks(working.model)
        optimizers = Optimizers(model, self.recipe.run.optimizer, working.dtype)
        return Training(working, task, optimizers, self.recipe.run)

    def advance(self, training: Training, task: Task, signals: Signals) -> Result:
        """Train, and look, sample and save when it is time."""
        run, choice, model = self.recipe.run, self.choice, training.working.master
        peak = peak_flops(choice.precision, choice.device)
        cost = training_cost(model, task.typical[1])
        flops = cost.of([1], 1)
        most = f" ({self.facts['trained']:,} trained)" if "trained" in self.facts else ""
        self.say.say(
            f"{self.recipe.name}: {self.facts['parameters']:,} parameters{most}, "
            f"{flops / 1e6:,.1f} MFLOP a token, {run.steps} steps, {choice.told} -> {self.out}"
        )
        try:
            self.look(training, task, signals)
            while not (self.counters.get(settle.ENDED) or self.reached(training)):
                step = training.advance()
                self.note(step, cost.of(step.read, step.tokens) / step.seconds / peak)
                self.look(training, task, signals)
                if due(run.save, training.done) and training.done < run.steps:
                    self.save(training)
                signals.check()
            if not self.counters.get(settle.ENDED):
                self.settle(training)
            figures = self.finish(training, task, signals)
        except StoppedError as stopped:
            self.save(training)
            told = f"{self.out}: {Names(stopped.number).name} after step {training.done}, which is saved"
            raise RunInterruptedError(stopped.number, told, "go on with --resume") from None
        except SaveError:
            raise
        except BaseException:  # a closed pipe, a bug, no memory, a second Ctrl-C
            if training.whole and self.noted == training.done:
                self.save(training)
            raise
        return Result(self.out, figures, self.facts, dict(self.counters), details_of(task))

    def look(self, training: Training, task: Task, signals: Signals) -> None:
        """Evaluate and sample, where that is due after the step just done and not yet written."""
        run, step, working = self.recipe.run, training.done, training.working
        if 0 < step < run.steps + (run.patience > 0) and not self.counters.get(settle.ENDED):
            if due(run.evaluate, step) and "validation_sample" not in self.written:
                with self.eager():
                    self.record(step, task.glance(working.model.eval(), signals.check))
            if step < run.steps:
                if due(run.sample, step) and "sample" not in self.written:
                    self.sample(step, working.master, task)
                self.written = frozenset()

    def reached(self, training: Training) -> bool:
        """Whether the step just done was the last: of all, or for want of patience."""
        run = self.recipe.run
        if run.patience and due(run.evaluate, training.done):
            losses = settle.losses_so_far(self.out / records.METRICS)
            if settle.better(losses):
                settle.keep_best(training.working.master, self.out, training.done)
            if settle.waited(losses) >= run.patience:
                self.say.say(f"{self.recipe.name}: {run.patience} evaluations without a better one")
                return True
        return training.done >= run.steps

    def settle(self, training: Training) -> None:
        """Give the model the weights that the run ends with, and save them."""
        told = settle.take(training, self.counters, self.out)
        # the step may have been saved already, with the weights that it ended with itself
        with checkpoint.replacing(self.out, training.done) if told else nullcontext():
            self.save(training)
        if told:
            self.say.say(f"{self.recipe.name}: {told}")

    def finish(self, training: Training, task: Task, signals: Signals) -> dict[str, float]:
        """Judge the fp32 weights on the whole validation data."""
        self.say.say(f"{self.recipe.name}: judging the weights")
        model = training.working.master.eval()
        with self.eager():
            figures = task.judge(model, signals.check)
        if "validation" not in self.written:
            self.record(training.done, figures)
        if "sample" not in self.written:
            self.sample(training.done, model, task)
        return figures

    def note(self, step: Step, share_of_peak: float) -> None:
        """Write and show one step's figures."""
        self.counters["seconds"] += step.seconds
        self.counters["tokens"] += step.tokens
        loss, rate = step.loss.item(), step.read[-1] / step.seconds
        line: dict[str, object] = {"step": step.number, "loss": loss}
        line |= {"grad_norm": step.grad_norm.item(), "rate": step.rate}
        if step.skipped:
            line["skipped"] = True
        self.append(line | {"tokens": self.counters["tokens"], "seconds": round(self.counters["seconds"], 6)})
        self.noted = step.number
        if step.skipped:
            self.say.warn(f"step {step.number}: loss or gradient not finite, weights left as they were")
        figures = {"loss": loss, "tokens_per_second": rate, "share_of_peak": share_of_peak}
        if self.validation is not None:
            figures["validation"] = self.validation
        self.say.step(step.number, figures)

    def record(self, step: int, figures: dict[str, float]) -> None:
        """Write an evaluation."""
        self.validation = figures.get("validation", figures.get("validation_sample"))
        self.append({"step": step, **figures})

    def sample(self, step: int, model: AnyModel, task: Task) -> None:
        """Write what the model makes; a sample that fails ends no run."""
        try:
            with self.eager():
                text = task.sample(model.eval())
        except CutawayError as problem:
            self.say.warn(f"step {step}: no sample: {problem}")
        else:
            self.append({"step": step, "sample": text})

    def append(self, line: dict[str, object]) -> None:
        """One line of metrics; a number that is not finite, which JSON does not have, is null."""
        told = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        store.append_line(self.out / records.METRICS, json.dumps(told, allow_nan=False))

    def save(self, training: Training) -> None:
        """A checkpoint of the last finished step; the metrics up to it reach the disk first."""
        if training.done:
            store.sync_file(self.out / records.METRICS)
            run = self.recipe.run
            checkpoint.save_checkpoint(self.out, training, self.counters, run.save, run.average)

    def eager(self) -> AbstractContextManager[object]:
        """Inside, compiled blocks run uncompiled: other shapes than training's would each be compiled."""
        if self.choice.compile == "off":
            return nullcontext()
        return torch.compiler.set_stance("force_eager")


def due(every: int, step: int) -> bool:
    """Whether something that happens every so many steps (0: never) happens after this one."""
    return every > 0 and step % every == 0
