"""`--plugin FILE.py`: a file of the user's own that registers records and modules before anything is read."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from cutaway.errors import ConfigError, InputMissingError


def load_plugin(file: str) -> None:
    """Runs a Python file as the module `cutaway_plugin_NAME`.

    Raises InputMissingError where there is none, ConfigError where it is not Python or fails.
    """
    path = Path(file)
    if not path.is_file() or path.suffix != ".py":
        raise InputMissingError(f"--plugin {file}: no such Python file; name a file that ends in .py")
    name = f"cutaway_plugin_{path.stem}"
    plan = spec_from_file_location(name, path)
    assert plan is not None and plan.loader is not None
    module = module_from_spec(plan)
    sys.modules[name] = module  # before it runs: dataclasses look their own module up
    try:
        plan.loader.exec_module(module)
    except Exception as problem:
        del sys.modules[name]
        line = problem.__traceback__
        while line is not None and line.tb_next is not None:
            line = line.tb_next
        where = f"line {line.tb_lineno} of {line.tb_frame.f_code.co_filename}" if line else path
        raise ConfigError(f"--plugin {file}: {type(problem).__name__} at {where}: {problem}") from problem
