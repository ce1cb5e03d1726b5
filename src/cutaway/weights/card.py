"""The README.md of an exported folder: what the model is, how it is used, how it came about.

The figures are those of the run it was trained in, read from the run's own files; where there is no run there
are no figures.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cutaway import __version__, store
from cutaway.errors import FileFormatError

TASKS = {
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForConditionalGeneration": "text2text-generation",
    "MTModel": "translation",
    "ForImageClassification": "image-classification",
}
TOLD = ("cutaway", "torch", "processor", "precision", "seed", "commit")


def write_card(config: Mapping[str, Any], parameters: int, run: Path | None = None) -> str:
    """The text; `run` is the directory of the run that trained the model."""
    name = config["architectures"][0]
    task = next((task for ending, task in TASKS.items() if name.endswith(ending)), "feature-extraction")
    lines = ["---", "library_name: transformers", f"pipeline_tag: {task}", "tags:", "- cutaway", "---", ""]
    lines += [f"# A model in the layout of {name}", ""]
    lines += [f"{parameters:,} parameters, written by Cutaway {__version__}.", "", "## Use", ""]
    lines += ["```python", f"from transformers import {name}", "", f'model = {name}.from_pretrained(".")']
    lines += ["```", "", "```python", "import cutaway as ca", "", 'model = ca.load(".")', "```", ""]
    return "\n".join(lines + (training(run) if run is not None else []))


def training(run: Path) -> list[str]:
    """The lines about a run: the command that repeats it, its last figures, its facts."""
    lines = ["## Training", "", "Trained with the recipe beside this file:", ""]
    lines += ["```console", "$ cutaway train recipe.toml", "```", ""]
    figures: dict[str, Any] = {}
    for place, line in enumerate(store.read_lines(run / "metrics.jsonl"), 1):
        try:
            record = json.loads(line)
            figures |= {key: value for key, value in record.items() if type(value) in (int, float)}
        except (ValueError, AttributeError):
            raise FileFormatError(run / "metrics.jsonl", f"line {place} is no JSON object") from None
    if figures:
        lines += ["| Figure, when last measured | |", "| --- | --- |"]
        lines += [f"| {key} | {value:.6g} |" for key, value in sorted(figures.items())] + [""]
    facts = store.read_object(run / "facts.json") if (run / "facts.json").is_file() else {}
    known = [f"{key} {facts[key]}" for key in TOLD if facts.get(key) is not None]
    return [*lines, f"With {', '.join(known)}.", ""] if known else lines
