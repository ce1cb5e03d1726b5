"""`cutaway convert MODEL FOLDER`: anything that can be loaded, written as a Hugging Face folder; or of a run
that was fine-tuned the adapters alone, as peft has them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from cutaway.app.options import Flag, option, parse
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import RECIPE


@dataclass(frozen=True)
class Options:
    """Write a model as a Hugging Face folder, which transformers and others read."""

    model: Annotated[
        tyro.conf.Positional[str], option(help="a run, a GGUF file, or anything else `cutaway.load` takes")
    ]
    folder: Annotated[tyro.conf.Positional[Path], option(help="the folder to make; it must not exist")]
    step: Annotated[int | None, option(help="of a run, the checkpoint at this step")] = None
    dtype: Annotated[str | None, option(help="fp32 or bf16; as the model has it if not given")] = None
    adapter: Annotated[Flag, option(help="write the adapters alone, in peft's layout")] = False
    json: Annotated[Flag, option(help="one JSON object about what was written")] = False


def run(arguments: list[str]) -> int:
    """Loads, writes, and says where."""
    options = parse(Options, arguments, "cutaway convert")
    from cutaway.session import load
    from cutaway.weights.export import CONFIG
    from cutaway.weights.peft import CONFIG as ADAPTER

    session = load(options.model, step=options.step, dtype=options.dtype)
    if options.adapter:
        made, name = session.save_adapter(options.folder, base=start_of(options.model)), ADAPTER
    else:
        made, name = session.save_pretrained(options.folder), CONFIG
    if options.json:
        config = json.loads((made / name).read_text(encoding="utf-8"))
        print(json.dumps({"folder": str(made), "config": config}))
    else:
        print(made)
    return 0


def start_of(model: str) -> str:
    """What the recipe of a run, or of a checkpoint in it, starts from; "" where there is no recipe."""
    places = (Path(model) / RECIPE, Path(model).resolve().parent.parent / RECIPE)
    return next((read_recipe(place).start for place in places if place.is_file()), "")
