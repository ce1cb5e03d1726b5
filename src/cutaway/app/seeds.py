"""Training one seed of a recipe: what the options mean, the training, what is kept of it."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cutaway.app.results import SeedResult, read_expected, read_results, recipe_folder, training_curve
from cutaway.data.sentences import LABELLED
from cutaway.errors import ConfigError, nearest
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import RECIPE, find_recipe, group_of
from cutaway.spec.run import Conversations, Data, Labelled, MaskedText, Parallel, Recipe, Text

if TYPE_CHECKING:
    from cutaway.train.progress import Reporter
    from cutaway.train.runner import Result

FACTS = (
    *("cutaway", "torch", "python", "platform", "processor", "device", "gpu"),
    *("precision", "compile", "threads", "data", "start", "trained"),
)


@dataclass(frozen=True)
class Plan:
    """What will be trained: `texts` are those of --data, none where they are the recipe's own after all."""

    folder: Path
    recipe: Recipe
    out: Path
    texts: tuple[str, ...]
    say: "Reporter"
    begun: bool = False  # the run stands in `out` already, finished or not


def ask(name: str, seed: int, texts: tuple[str, ...], out: Path | None, quiet: bool, start: str = "") -> Plan:
    """What the options of `recipes run` and `verify` mean; `start` stands for the recipe's own.

    Raises ConfigError where they do not fit.
    """
    from cutaway.app.progress import reporter
    from cutaway.data.download import keep_copy
    from cutaway.train.progress import Silent

    recipe = read_recipe(find_recipe(name))
    folder = recipe_folder(name)
    if not (folder / RECIPE).is_file():
        raise ConfigError(f"{name}: name a recipe or its folder, so that its expected.json is known")
    recipe = replace(recipe, run=replace(recipe.run, seed=seed))
    own = sources(recipe.data)
    if texts == own or (len(texts) == len(own) == 1 and keep_copy(own[0], texts[0])):
        texts = ()
    recipe = with_texts(recipe, texts)
    group = group_of(name)
    if start and not recipe.start:
        raise ConfigError(f"--start: {recipe.name} begins with random weights; leave the option out")
    out = out or Path("runs", group, f"{recipe.name}-seed-{seed}")
    if start:
        recipe = replace(recipe, start=start)
    elif group and recipe.start:  # another member of the group, trained with the same seed
        recipe = replace(recipe, start=str(out.parent / f"{recipe.start}-seed-{seed}"))
    say = Silent() if quiet else reporter(recipe.run.steps)
    return Plan(folder, recipe, out, texts, say)


def sources(data: object) -> tuple[str, ...]:
    """Where a recipe's examples come from: its texts, or the one folder of its files."""
    match data:
        case Text() | MaskedText() | Conversations():
            return data.source
        case Parallel() | Labelled():
            return (data.folder,)
    return ()


def with_texts(recipe: Recipe, texts: tuple[str, ...]) -> Recipe:
    """The recipe with `texts`, if any, in place of its own; one of sentences from a folder takes a folder.

    Raises ConfigError where its data is made up, or is in one folder and several are given.
    """
    match recipe.data:
        case _ if not texts:
            return recipe
        case MaskedText(source=own) if _is_folder(texts) and all(one.startswith(LABELLED) for one in own):
            inside = (one.removeprefix(LABELLED).partition("/")[2] for one in own)
            labelled = tuple(f"{LABELLED}{texts[0].rstrip('/')}/{name}" for name in inside)
            return replace(recipe, data=replace(recipe.data, source=labelled))
        case Parallel() | Labelled() if len(texts) > 1:
            raise ConfigError(f"--data: {recipe.name} reads one folder; name one, not {len(texts)}")
        case Text() | MaskedText() | Conversations() | Parallel() | Labelled():
            return replace(recipe, data=placed(recipe.data, texts))
    raise ConfigError(f"--data: {recipe.name} makes its own examples; leave the option out")


def _is_folder(texts: tuple[str, ...]) -> bool:
    return len(texts) == 1 and not texts[0].startswith(LABELLED)


def placed(data: Data, places: tuple[str, ...]) -> Data:
    """The data with its texts, or its folder, elsewhere; what `sources` tells of it."""
    match data:
        case Text() | MaskedText() | Conversations():
            return replace(data, source=places)
        case Parallel() | Labelled():
            return replace(data, folder=places[0])
    return data


def spelled_as(stored: Recipe, asked: Recipe) -> Recipe:
    """What is asked for, its texts and start spelled as in the run where the paths mean the same places."""
    if stored.start and asked.start and Path(stored.start).resolve() == Path(asked.start).resolve():
        asked = replace(asked, start=stored.start)
    own = sources(stored.data)
    if type(stored.data) is not type(asked.data) or not own:
        return asked
    known, given = ([_place(one) for one in some] for some in (own, sources(asked.data)))
    return replace(asked, data=placed(asked.data, own)) if known == given else asked


def _place(source: str) -> tuple[str, Path]:
    kind = LABELLED if source.startswith(LABELLED) else ""
    return kind, Path(source.removeprefix(kind)).resolve()


def ready(plan: Plan) -> Plan:
    """The same with a public text on this machine, and `begun` if this run has taken steps already.

    Raises ConfigError where the run in its folder was begun with something else, or with other weights than
    now stand at its start; OutputExistsError where the folder holds what is no run.
    """
    from cutaway.data.download import with_local_data
    from cutaway.train.records import check_asked, check_new, is_new
    from cutaway.train.start import check_start

    plan = replace(plan, recipe=with_local_data(plan.recipe))
    if is_new(plan.out) or not (plan.out / RECIPE).is_file():
        check_new(plan.out)
        return plan
    stored = read_recipe(plan.out / RECIPE)
    remedy = f"ask for that, choose another --out, or delete {plan.out}"
    check_asked(plan.out, stored, spelled_as(stored, plan.recipe), remedy)
    if stored.start and Path(stored.start).exists():  # elsewhere it may be gone, and is not needed any more
        check_start(plan.out, stored.start)
    return replace(plan, begun=True)


def is_of_run(result: SeedResult, plan: Plan) -> bool:
    """Whether a result is that of the very run in the plan's folder, which is then finished: the seconds in
    its curve are those of no other run.
    """
    from cutaway.train.records import is_finished

    alike = plan.begun and result.seed == plan.recipe.run.seed
    return alike and is_finished(plan.out) and result.curve == training_curve(plan.out)


def check_text(plan: Plan, results: Path, remedy: str) -> bool:
    """Whether the text is the recipe's own; ConfigError where the seeds in `results` learned another.

    Only a text that was named is looked at: `stdlib:` differs a little from one Python to the next.
    """
    seeds = [seed for seed in read_results(plan.folder, results) if "data" in seed.facts]
    others = [seed for seed in seeds if "--data" in seed.command]
    if not plan.texts and not others:
        return True
    from cutaway.train.start import read_start
    from cutaway.train.tasks import make_task

    start = read_start(plan.recipe.start)
    words = (start.tokenizer, start.template) if start else (None, None)
    digest = make_task(plan.recipe.data, plan.recipe.run, *words).digest
    if seeds and digest not in {seed.facts["data"] for seed in seeds}:
        said = f"--data {shlex.join(plan.texts)}" if plan.texts else plan.folder.name
        remedy = remedy if plan.texts else "give the --data that their commands name"
        raise ConfigError(f"{said}: not the text that the seeds in {results} were trained on; {remedy}")
    return not plan.texts or digest in {seed.facts["data"] for seed in seeds if seed not in others}


def write_page(plan: Plan, run: "Result") -> str:
    """Writes report.html into a finished run's folder, as `cutaway train` does, and says where it is."""
    from cutaway.app.outcome import conclude

    return conclude(plan.recipe, run, plan.say).report


def train_seed(plan: Plan, command: str) -> tuple["Result", SeedResult]:
    """Trains, or goes on, and returns the run and what came out. Evaluations are not in the seconds."""
    from cutaway.train.runner import Runner
    from cutaway.train.signals import RunInterruptedError

    folder, recipe = plan.folder, plan.recipe
    expected = read_expected(folder)
    try:
        result = Runner(recipe, plan.out, say=plan.say).train(plan.begun)
    except RunInterruptedError as stopped:
        raise RunInterruptedError(stopped.number, stopped.told, "the same command goes on") from None
    if expected.measure not in result.figures:
        raise ConfigError(
            f"{folder}/expected.json: measure: {expected.measure} is no figure of this run; "
            f"{nearest(expected.measure, result.figures)}"
        )
    return result, SeedResult(
        recipe=folder.name,
        seed=recipe.run.seed,
        value=result.figures[expected.measure],
        figures=result.figures,
        seconds=round(result.counters["seconds"], 2),
        tokens=int(result.counters["tokens"]),
        parameters=int(str(result.facts["parameters"])),
        command=command,
        commit=str(result.facts["commit"]) if result.facts.get("commit") else None,
        facts={name: str(result.facts[name]) for name in FACTS if result.facts.get(name) is not None},
        curve=training_curve(plan.out),
        details=result.details,
    )
