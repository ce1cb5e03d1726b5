"""`cutaway convert MODEL FOLDER`: anything that can be loaded, written as a Hugging Face folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from cutaway.app.options import Flag, option, parse


@dataclass(frozen=True)
class Options:
    """Write a model as a Hugging Face folder, which transformers and others read."""

    model: Annotated[
        tyro.conf.Positional[str], option(help="a run, a GGUF file, or anything else `cutaway.load` takes")
    ]
    folder: Annotated[tyro.conf.Positional[Path], option(help="the folder to make; it must not exist")]
    step: Annotated[int | None, option(help="of a run, the checkpoint at this step")] = None
    dtype: Annotated[str | None, option(help="fp32 or bf16; as the model has it if not given")] = None
    json: Annotated[Flag, option(help="one JSON object about what was written")] = False


def run(arguments: list[str]) -> int:
    """Loads, writes, and says where."""
    options = parse(Options, arguments, "cutaway convert")
    from cutaway.session import load

    made = load(options.model, step=options.step, dtype=options.dtype).save_pretrained(options.folder)
    if options.json:
        config = json.loads((made / "config.json").read_text(encoding="utf-8"))
        print(json.dumps({"folder": str(made), "config": config}))
    else:
        print(made)
    return 0
