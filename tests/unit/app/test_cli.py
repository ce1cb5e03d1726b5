"""The command line: exit codes, one-line errors, plugins, and options that are the recipe's own records."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cutaway
from cutaway.app.cli import COMMANDS, load_plugins, main
from cutaway.errors import ConfigError, CutawayError, RunLockedError
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import shipped_recipes


def ends(capsys, *arguments):
    """Exit code, standard output and standard error of a command."""
    try:
        code = main(list(arguments))
    except SystemExit as leaving:
        code = leaving.code or 0
    told = capsys.readouterr()
    return code, told.out, told.err


REFUSED = {
    ("trian",): (2, "command 'trian' unknown; did you mean train?"),
    ("train", "stdlb"): (2, "recipe 'stdlb' unknown; did you mean stdlib?"),
    ("train", "nowhere/x.toml"): (66, "nowhere/x.toml: no such file or folder"),
    ("train", "stdlib", "--stps", "3"): (2, "unrecognized options: --stps, 3; did you mean --steps?"),
    ("train", "stdlib", "--run.stps", "3"): (2, "unrecognized options: --stps, 3; did you mean --steps?"),
    ("train", "stdlib", "--model.layer", "3"): (
        2,
        "unrecognized options: --model.layer, 3; did you mean --model.",
    ),
    ("train", "stdlib", "--steps", "many"): (2, "error parsing --steps: invalid literal for int()"),
    ("train", "stdlib", "--steps", "0"): (2, "cutaway train stdlib: run.steps: 0 must be at least 1"),
    ("train", "stdlib", "--steps", "9" * 30): (
        2,
        "cutaway train stdlib: run.steps: a whole number of more than",
    ),
    ("train", "stdlib", "--clip", "nan"): (2, "cutaway train stdlib: run.clip: nan is not a finite number"),
    ("train", "stdlib", "--precision", "fp16"): (2, "invalid choice 'fp16' for argument '--precision'"),
    ("train", "stdlib", "--model.heads", "0"): (2, "model: heads: 0 must be at least 1"),
    ("train", "reverse", "--data", "x"): (2, "--data: reverse makes its own examples"),
    ("train", "stdlib", "--plugin", "nowhere.py"): (66, "--plugin nowhere.py: no such Python file"),
    ("train", "stdlib", "--plugin"): (66, "--plugin : no such Python file"),
    ("generate",): (2, "missing"),
    ("generate", "-m", "x", "--temperatur", "1"): (2, "unrecognized options: --temperatur"),
    ("report", "-m", "x", "--text", "nowhere.txt"): (66, "nowhere.txt: cannot be read (No such file"),
    ("study", "trase"): (2, "study 'trase' unknown; did you mean trace?"),
    ("study", "trace", "text"): (2, ""),
    ("recipes", "lst"): (2, "recipes 'lst' unknown; did you mean list?"),
    ("recipes", "run", "stdlib"): (2, ""),
    ("recipes", "run", "stdlb", "--seed", "1"): (2, "recipe 'stdlb' unknown; did you mean stdlib?"),
    ("doctor", "--fast"): (2, "unrecognized options: --fast"),
}


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_a_wrong_command_ends_in_one_line(capsys, arguments):
    code, message = REFUSED[arguments]
    found, out, err = ends(capsys, *arguments)
    assert (found, out) == (code, ""), err
    assert err.startswith(f"cutaway: {message}") and err.count("\n") == 1


def test_no_command_is_a_wrong_command(capsys):
    code, out, _ = ends(capsys)
    assert code == 2 and "usage: cutaway COMMAND" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(capsys, name):
    code, out, err = ends(capsys, name, "--help")
    assert (code, err) == (0, "") and "usage: cutaway " + name in out


def test_version(capsys):
    code, out, _ = ends(capsys, "--version")
    assert code == 0 and out.startswith("cutaway 0.")


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (RunLockedError("x", "process 3"), 73, "cutaway: x: in use by process 3"),
        (CutawayError("odd"), 1, "cutaway: odd"),
        (KeyboardInterrupt(), 130, "cutaway: interrupted"),
        (ZeroDivisionError("a bug"), 70, "Traceback"),
    ],
)
def test_an_error_becomes_its_exit_code(capsys, monkeypatch, raised, code, said):
    def fail(arguments):
        raise raised

    monkeypatch.setattr("cutaway.app.cli.run", fail)
    found, out, err = ends(capsys, "train")
    assert (found, out) == (code, "") and err.startswith(said)


def resolved(capsys, *arguments):
    code, out, err = ends(capsys, "train", *arguments, "--print-config")
    assert (code, err) == (0, "")
    return read_recipe(tomllib.loads(out))


@pytest.mark.parametrize("name", shipped_recipes())
def test_the_printed_configuration_is_the_recipe(capsys, name):
    assert resolved(capsys, name) == read_recipe(shipped_recipes()[name] / "recipe.toml")


def test_options_replace_the_recipes_values_and_nothing_else(capsys):
    plain = resolved(capsys, "stdlib")
    changed = resolved(
        capsys, "stdlib", "--steps", "7", "--run.batch", "4", "--seed", "3", "--optimizer.rate", "0.5",
        "--model.layers", "2", "--data.vocab", "300", "--clip", "None",
    )  # fmt: skip
    assert (changed.run.steps, changed.run.batch, changed.run.seed) == (7, 4, 3)
    assert changed.run.optimizer.rate == 0.5 and changed.run.clip is None
    assert changed.model.stack.layers == 2 and changed.data.vocab == 300
    assert changed.run.schedule == plain.run.schedule and changed.model.width == plain.model.width


def test_a_fold_of_one_file_is_an_option(capsys):
    """The command of docs/sequences.md for one fold of MR."""
    folds = ("--data.train", "rt-polarity.all", "--data.test", "", "--data.folds", "10", "--data.fold", "3")
    found = resolved(capsys, "bert-small/5-trec-scratch", "--data", "sentences", *folds)
    assert (found.data.train, found.data.test, found.data.folds, found.data.fold) == (folds[1], "", 10, 3)
    code, _, err = ends(capsys, "train", "bert-small/5-trec-scratch", "--data.fold", "3")
    assert code == ConfigError.exit_code and "data.fold: 3 is none of 0 folds" in err


def test_a_text_trains_as_the_default_recipe(capsys, tmp_path):
    text = tmp_path / "my text.txt"
    text.write_text("hello")
    found, plain = resolved(capsys, str(text)), resolved(capsys, "stdlib")
    assert (found.name, found.data.source, found.data.split) == ("my-text", (str(text),), "tail")
    assert found.run == plain.run and found.model == plain.model
    assert resolved(capsys, str(tmp_path)).data.split == "file"


def test_other_texts_for_a_recipe(capsys):
    assert resolved(capsys, "shakespeare-small", "--data", "a", "b").data.source == ("a", "b")
    assert resolved(capsys, "shakespeare-small").data.source == ("tinyshakespeare:",)


def test_a_recipe_of_ones_own_by_file_and_by_folder(capsys, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(
        (shipped_recipes()["stdlib"] / "recipe.toml").read_text().replace('"stdlib"', '"mine"', 1)
    )
    assert resolved(capsys, str(path)).name == resolved(capsys, str(tmp_path)).name == "mine"
    path.write_text(path.read_text().replace("layers =", "layrs ="))
    code, _, err = ends(capsys, "train", str(path))
    assert code == 2 and err == f"cutaway: {path}: model.layrs: unknown key; did you mean layers?\n"


def test_a_tree_has_no_preset_options(capsys, tmp_path):
    path = tmp_path / "recipe.toml"
    code, out, _ = ends(capsys, "train", "stdlib", "--print-config")
    path.write_text(out)
    assert code == 0 and resolved(capsys, str(path)) == resolved(capsys, "stdlib")
    assert ends(capsys, "train", str(path), "--model.layers", "2")[0] == 2


PLUGIN = """
from dataclasses import dataclass
from cutaway import spec

@dataclass(frozen=True)
class Conveyor(spec.Mixer):
    places: int = 1
"""


def test_a_plugin_adds_a_record(capsys, tmp_path):
    plugin, path = tmp_path / "parts.py", tmp_path / "recipe.toml"
    plugin.write_text(PLUGIN)
    code, out, _ = ends(capsys, "train", "stdlib", "--print-config")
    table = out.replace('kind = "Attention"\nheads = 3\nbias = ""', 'kind = "Conveyor"\nplaces = 3')
    mixer = "[model.stack.blocks.mixer"
    table = (
        table.split(f"{mixer}.")[0] + "[model.stack.blocks.ffn" + table.split("[model.stack.blocks.ffn", 1)[1]
    )
    path.write_text(table)
    code, _, err = ends(capsys, "train", str(path), "--print-config")
    assert code == 2 and "mixer.kind: 'Conveyor' unknown" in err
    found = resolved(capsys, str(path), "--plugin", str(plugin))
    assert type(found.model.stack.blocks[0].mixer).__name__ == "Conveyor"
    assert found.model.stack.blocks[0].mixer.places == 3


def test_a_plugin_that_fails_is_one_line(tmp_path):
    plugin = tmp_path / "broken.py"
    plugin.write_text("\n1 / 0\n")
    with pytest.raises(ConfigError, match=r"ZeroDivisionError at line 2 of .*broken.py: division by zero"):
        load_plugins(["stdlib", f"--plugin={plugin}"])
    assert "cutaway_plugin_broken" not in sys.modules
    assert load_plugins(["a", "--", "--plugin", "x"]) == ["a", "--", "--plugin", "x"]


def test_a_closed_pipe_is_no_traceback():
    code = (
        "import sys; from cutaway.app.cli import main; sys.exit(main(['train', 'stdlib', '--print-config']))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-u", "-c", code], stdout=writer, stderr=subprocess.PIPE, timeout=120
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_generates_options_are_those_of_sampling():
    from dataclasses import fields

    from cutaway.app.generate import Options
    from cutaway.generate import Sampling

    ours = {f.name: f.default for f in fields(Options)}
    assert {f.name: ours[f.name] for f in fields(Sampling)} == {f.name: f.default for f in fields(Sampling)}


def test_doctor_tells_machines_what_it_tells_people(capsys, monkeypatch):
    from cutaway.train.measure import Machine

    machine = Machine("a processor", 3, ("a GPU",), 2e11, 1e12, 9e9)
    monkeypatch.setattr("cutaway.train.measure.machine", lambda: machine)
    monkeypatch.setattr("cutaway.train.choose.block_seconds", lambda *given, **named: 0.5)
    code, out, _ = ends(capsys, "doctor", "--quick", "--json")
    found = json.loads(out)
    assert code == 0 and (found["cores"], found["bf16_flops"], found["devices"]) == (3, 1e12, ["a GPU"])
    assert found["precision"] == "fp32", "bf16 that is no faster must not be chosen"
    assert found["device"] == "cpu" and found["cutaway"] == cutaway.__version__
    code, out, _ = ends(capsys, "doctor", "--quick")
    for said in ("3 cores", "a GPU", "1000 GFLOP/s", "9.0 GB/s", "chosen     fp32", "on cpu", "not tried"):
        assert said in out


@pytest.mark.parametrize("problem", [None, "no C++ compiler"])
def test_doctor_tells_whether_compilation_pays(problem):
    from cutaway.app.doctor import Trial, compilation

    slow, fast = Trial(1.0, 1.0, problem), Trial(1.0, None if problem else 1.5, problem)
    assert "no compilation" in compilation(slow)
    assert ("no compilation" in compilation(fast)) == (problem is not None)


def test_json_of_recipes(capsys):
    code, out, _ = ends(capsys, "recipes", "list", "--json")
    assert code == 0 and {entry["name"] for entry in json.loads(out)} == set(shipped_recipes())
    assert all(entry["title"] for entry in json.loads(out))


def test_find_recipe_prefers_the_shipped_name(tmp_path, monkeypatch):
    from cutaway.spec.recipes import find_recipe

    monkeypatch.chdir(tmp_path)
    Path("stdlib").mkdir()
    assert find_recipe("stdlib") == shipped_recipes()["stdlib"] / "recipe.toml"
    with pytest.raises(CutawayError, match=r"holds no recipe\.toml"):
        find_recipe("./stdlib")


@pytest.mark.parametrize("arguments", [("train", "--help"), ("train", "stdlib", "--stps", "3")], ids=" ".join)
def test_no_colours_even_on_a_terminal(capfd, monkeypatch, arguments):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _, out, err = ends(capfd, *arguments)
    assert "\x1b" not in out + err and ("--steps" in out + err)
