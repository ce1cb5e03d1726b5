"""Before and after, side by side: the loss on held-out text of both kinds, what is written after a prompt.

python compare.py RUN [OUT]    (RUN is a finished run of this recipe; its start must still be where it was)
"""

import sys
from pathlib import Path

import cutaway as ca
from cutaway.session import Session
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import RECIPE
from cutaway.store import write_file
from cutaway.train.start import FACT, digest_of
from cutaway.train.task import Task
from cutaway.train.tasks import make_task
from cutaway.weights.config import read_object

PROMPTS = ("KING HENRY:\n", "The weather today is", "A list in Python is")
TOKENS = 60
FIGURES = {
    "validation": "Shakespeare, held out: nats a token",
    "bits_per_byte": "the same in bits a byte",
    "general": "Python's help texts, never learned: nats a token",
}


def sides(run: Path) -> dict[str, Session]:
    """The model as it was and as it is; SystemExit where the start is another by now."""
    start = read_recipe(run / RECIPE).start
    before = ca.load(start, dtype="fp32")
    if digest_of(before.model) != read_object(run / "facts.json")[FACT]:
        sys.exit(f"{start}: holds other weights than when {run} began")
    return {"before": before, "after": ca.load(run)}


def judge(task: Task, session: Session) -> dict[str, float]:
    """The figures that are compared, taken as at the end of a run."""
    return task.judge(session.model, lambda: None)


def compare(run: Path) -> str:
    """A page in Markdown."""
    recipe, both = read_recipe(run / RECIPE), sides(run)
    task = make_task(recipe.data, recipe.run, both["after"].tokenizer)
    found = {name: judge(task, session) for name, session in both.items()}
    lines = ["| | before | after |", "| --- | --- | --- |"]
    for key, told in FIGURES.items():
        if key in found["after"]:
            lines.append(f"| {told} | {found['before'][key]:.4f} | {found['after'][key]:.4f} |")
    for prompt in PROMPTS:
        for name, session in both.items():
            text = session.generate(prompt, TOKENS, temperature=0.8, top_p=0.95, seed=0)
            lines += ["", f"{name}, {prompt!r}:", "", "```text", f"{prompt}{text}", "```"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("usage: compare.py RUN [OUT]")
    page = compare(Path(sys.argv[1]))
    if sys.argv[2:]:
        write_file(Path(sys.argv[2]), page.encode())
    print(page, end="")
