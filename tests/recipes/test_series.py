"""A series of seeds goes on another day: what is finished stays, what was begun goes on, what has a result
alone is trained again. Real trainings of three tiny recipes, some of them killed.
"""

import json
import os
import shutil
import signal
import warnings
from pathlib import Path

import pytest

from cutaway.app import progress
from cutaway.app.cli import main
from cutaway.app.results import file_name
from cutaway.store import DirectoryLock
from cutaway.train.loop import Training
from tests.unit.train.tiny import TEXT, Stop, remains

MEMBERS = ("1-base", "2-on", "3-alone")
MODEL = 'model = {preset = "quick", layers = 1, width = 16, heads = 2}'
RECIPE = """
format = 1
name = "{name}"
{begins}
data = {{kind = "Text", source = ["text.txt"], tokenizer = "bytes", split = "tail"}}

[run]
steps = 4
batch = 2
length = 16
threads = 1
precision = "fp32"
compile = "off"
evaluate = 2
save = 2
"""
EXPECTED = {
    "measure": "validation",
    "unit": "nats",
    "better": "less",
    "published": None,
    "source": "nowhere",
    "tolerance": 0.1,
    "seeds": [1],
}


@pytest.fixture(autouse=True)
def ladder(tmp_path, monkeypatch):
    """A checkout whose only recipes are a group of three; the second begins with the first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("cutaway.spec.recipes.__file__", str(tmp_path / "src/cutaway/spec/recipes.py"))
    Path("text.txt").write_text(TEXT)
    Path("other.txt").write_text(TEXT[::-1])
    for name in MEMBERS:
        folder = tmp_path / "recipes" / "ladder" / name
        folder.mkdir(parents=True)
        begins = 'start = "1-base"' if name == "2-on" else MODEL
        (folder / "recipe.toml").write_text(RECIPE.format(name=name, begins=begins))
        (folder / "expected.json").write_text(json.dumps(EXPECTED))
    return tmp_path / "recipes" / "ladder"


def ends(capsys, command, name, *arguments):
    """Exit code, standard output and standard error of `cutaway recipes COMMAND NAME --seed 1 ...`."""
    capsys.readouterr()
    code = main(["recipes", command, name, "--seed", "1", *arguments])
    told = capsys.readouterr()
    return code, told.out, told.err


def out(name):
    return Path("runs", "ladder", f"{name}-seed-1")


def result(ladder, name):
    path = ladder / name / "results" / file_name(1)
    return json.loads(path.read_text()) if path.exists() else None


def stopped(monkeypatch, step, number=signal.SIGINT):
    """From now on a signal comes after a step of every training."""
    monkeypatch.setattr(progress, "reporter", lambda steps: Stop(step, number))


@pytest.fixture
def steps(monkeypatch):
    """Counts the steps of training."""
    taken, advance = [], Training.advance
    monkeypatch.setattr(Training, "advance", lambda self: (taken.append(1), advance(self))[1])
    return taken


def test_a_result_without_its_run_is_trained_again_and_then_passed_over(ladder, capsys, steps):
    assert ends(capsys, "run", "ladder")[0] == 0 and len(steps) == 12
    committed = {name: result(ladder, name) for name in MEMBERS}
    shutil.rmtree("runs")  # a fresh clone of the repository has the results alone
    code, _, err = ends(capsys, "run", "ladder")
    assert code == 0 and len(steps) == 24 and "there already" not in err
    for name, before in committed.items():
        now = result(ladder, name)
        figures = f"was {before['value']:.4f} of another run, now {now['value']:.4f}"
        assert f"ladder/{name}: {ladder / name / 'results/seed-1.json'}: {figures}\n" in err
        assert now["curve"] != before["curve"], "another run"
        assert now["value"] == before["value"], "the same seed, the same machine"
    code, printed, err = ends(capsys, "run", "ladder", "--json")
    assert code == 0 and len(steps) == 24 and err.count("there already") == 3
    assert [json.loads(line) for line in printed.splitlines()] == [result(ladder, name) for name in MEMBERS]
    code, printed, err = ends(capsys, "run", "ladder", "--data", "other.txt")
    assert code == 2 and len(steps) == 24 and "there already" not in err
    assert "1-base-seed-1/recipe.toml: data.source: ['text.txt'] in this run, ['other.txt'] asked for" in err


def test_a_member_whose_start_was_trained_elsewhere_finds_it_trained_here(ladder, capsys, steps):
    assert ends(capsys, "run", "ladder/1-base")[0] == 0
    shutil.rmtree("runs")
    code, _, err = ends(capsys, "run", "ladder")
    assert code == 0 and len(steps) == 16 and "no such folder" not in err
    assert 'start = "runs/ladder/1-base-seed-1"' in (out("2-on") / "recipe.toml").read_text()


def test_a_member_whose_start_was_trained_anew_is_not_passed_over(ladder, capsys, steps):
    assert ends(capsys, "run", "ladder", "--out", "all")[0] == 0 and len(steps) == 12
    path = Path("all").resolve()
    code, _, err = ends(capsys, "run", "ladder", "--out", str(path))
    assert code == 0 and err.count("there already") == 3, "the same folder, spelled in another way"
    shutil.rmtree(path / "1-base-seed-1")
    recipe = ladder / "1-base" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("steps = 4", "steps = 6"))
    code, _, err = ends(capsys, "run", "ladder", "--out", "all")
    assert code == 2 and len(steps) == 18 and err.count("there already") == 1
    assert "2-on-seed-1: began with other weights of all/1-base-seed-1, which was trained anew since" in err
    shutil.rmtree(path / "2-on-seed-1")
    assert ends(capsys, "run", "ladder", "--out", "all")[0] == 0 and len(steps) == 22


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_run_that_was_stopped_goes_on(number, ladder, capsys, monkeypatch, steps):
    assert ends(capsys, "run", "ladder", "--out", "whole", "--results", "whole")[0] == 0
    whole = json.loads(Path("whole/1-base/seed-1.json").read_text())
    with monkeypatch.context() as patch:
        stopped(patch, 3, number)
        if number == signal.SIGKILL:
            assert forked(lambda: main(["recipes", "run", "ladder", "--seed", "1"])) == -number
        else:
            code, _, err = ends(capsys, "run", "ladder")
            assert code == 130 and err.endswith(
                "SIGINT after step 3, which is saved; the same command goes on\n"
            )
    assert not out("2-on").exists() and not out("3-alone").exists(), "the signal is for the whole group"
    assert result(ladder, "1-base") is None
    steps.clear()
    code, printed, _ = ends(capsys, "run", "ladder")
    left = 1 if number == signal.SIGINT else 2  # kill -9 leaves the checkpoint of step 2
    assert code == 0 and len(steps) == left + 8
    assert printed.count("going on") == 1 and f"1-base: going on after step {4 - left}\n" in printed
    assert result(ladder, "1-base")["figures"] == whole["figures"]
    assert remains(out("1-base")) == remains(Path("whole/1-base-seed-1"))


def forked(work) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside other threads, which only wait
        process = os.fork()
    if process == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_the_result_of_a_finished_run_is_written_from_it(ladder, capsys, steps):
    assert ends(capsys, "run", "ladder/3-alone")[0] == 0
    path = ladder / "3-alone" / "results" / "seed-1.json"
    of_run = path.read_bytes()
    path.unlink()
    assert ends(capsys, "run", "ladder/3-alone")[0] == 0
    assert path.read_bytes() == of_run and len(steps) == 4
    elsewhere = json.loads(of_run) | {"value": 1.0, "curve": [[2, 0.5, 6.0], [4, 1.0, 5.0]]}
    path.write_text(json.dumps(elsewhere))  # as `git pull` may bring it
    code, _, err = ends(capsys, "run", "ladder/3-alone")
    assert code == 0 and "was 1.0000 of another run, now " in err
    assert path.read_bytes() == of_run and len(steps) == 4


@pytest.mark.parametrize(
    ("damaged", "again"), [("checkpoints/step-000004/model.safetensors", 2), ("metrics.jsonl", 0)]
)
def test_a_finished_run_that_is_damaged_goes_on_from_what_is_whole(damaged, again, ladder, capsys, steps):
    assert ends(capsys, "run", "ladder/3-alone")[0] == 0
    before, path = result(ladder, "3-alone"), out("3-alone") / damaged
    path.write_bytes(path.read_bytes()[:-1] + b"x\n")
    code, _, err = ends(capsys, "run", "ladder/3-alone")
    assert code == 0 and len(steps) == 4 + again and "there already" not in err
    assert result(ladder, "3-alone")["figures"] == before["figures"]


def test_a_run_goes_on_only_as_it_was_begun(ladder, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        stopped(patch, 3)
        assert ends(capsys, "run", "ladder/3-alone")[0] == 130
    file = ladder / "3-alone" / "recipe.toml"
    own = file.read_text()
    file.write_text(own.replace("steps = 4", "steps = 6"))
    code, _, err = ends(capsys, "run", "ladder/3-alone")
    assert code == 2 and "3-alone-seed-1/recipe.toml: run.steps: 4 in this run, 6 asked for" in err
    assert f"ask for that, choose another --out, or delete {out('3-alone')}" in err
    file.write_text(own)
    Path("text.txt").write_text(TEXT[::-1])
    code, _, err = ends(capsys, "run", "ladder/3-alone")
    assert code == 2 and "the text has changed since the run began" in err
    Path("text.txt").write_text(TEXT)
    code, _, err = ends(capsys, "run", "ladder/3-alone", "--data", str(Path("text.txt").resolve()))
    assert code == 0, "the same text, spelled in another way"


def test_a_member_that_fails_costs_those_that_begin_with_it(ladder, capsys):
    with DirectoryLock(out("1-base")):
        code, _, err = ends(capsys, "run", "ladder")
        assert code == 73
    first, second = err.splitlines()
    assert first.startswith("cutaway: ladder/1-base: runs/ladder/1-base-seed-1: in use by process ")
    assert second == "cutaway: ladder/2-on: left out, as it begins with 1-base"
    assert result(ladder, "3-alone") and not out("2-on").exists()
    assert ends(capsys, "run", "ladder")[0] == 0 and result(ladder, "2-on")


def test_a_group_is_verified_in_turn(ladder, capsys, monkeypatch, steps):
    assert ends(capsys, "run", "ladder")[0] == 0
    code, _, err = ends(capsys, "verify", "ladder")
    assert code == 73 and len(steps) == 12 and "1-base-seed-1: the committed result is of this run" in err
    with monkeypatch.context() as patch:
        stopped(patch, 3)
        assert ends(capsys, "verify", "ladder", "--out", "again")[0] == 130
    code, printed, _ = ends(capsys, "verify", "ladder", "--out", "again")
    assert code == 0 and printed.count("agrees with") == 3 and len(steps) == 24
    assert "1-base: going on after step 3" in printed
    path = ladder / "1-base" / "results" / "seed-1.json"
    path.write_text(json.dumps(result(ladder, "1-base") | {"value": 1.0}))
    code, printed, _ = ends(capsys, "verify", "ladder", "--out", "again")
    assert code == 1 and printed.count("DIFFERS from") == 1 and printed.count("agrees with") == 2
    assert len(steps) == 24, "a run that is finished and not committed is judged as it is"


def test_several_seeds_begin_with_one_run(ladder, capsys, steps):
    assert ends(capsys, "run", "ladder")[0] == 0 and len(steps) == 12
    start = str(out("1-base"))
    code, _, err = ends(capsys, "run", "ladder", "--start", start, "--out", "more", "--results", "kept")
    assert code == 0 and len(steps) == 20 and not Path("more/1-base-seed-1").exists()
    assert f'start = "{start}"' in Path("more/2-on-seed-1/recipe.toml").read_text()
    kept = {name: json.loads(Path("kept", name, file_name(1)).read_text()) for name in MEMBERS[1:]}
    assert (
        kept["2-on"]["command"].endswith(f"--start {start}") and "--start" not in kept["3-alone"]["command"]
    )
    for name, one in kept.items():
        assert one["value"] == result(ladder, name)["value"], "the same start, the same seed"
    code, _, err = ends(capsys, "run", "ladder", "--start", start, "--out", "more", "--results", "kept")
    assert code == 0 and len(steps) == 20 and err.count("there already") == 2


def test_a_group_whose_members_begin_with_no_one_run_takes_no_start(ladder, capsys, steps):
    third = ladder / "3-alone" / "recipe.toml"
    third.write_text(third.read_text().replace(MODEL, 'start = "2-on"'))
    code, _, err = ends(capsys, "run", "ladder", "--start", "somewhere")
    assert code == 2 and "--start: members of ladder begin with 1-base and 2-on; name one member" in err
    for name in MEMBERS[1:]:
        path = ladder / name / "recipe.toml"
        path.write_text(RECIPE.format(name=name, begins=MODEL))
    code, _, err = ends(capsys, "run", "ladder", "--start", "somewhere")
    assert code == 2 and "--start: no member of ladder begins with a run; leave the option out" in err
    assert not steps


def test_a_start_that_is_not_there_costs_no_step_of_the_group(capsys, steps):
    code, _, err = ends(capsys, "run", "ladder", "--start", "nowhere")
    assert code == 66 and "start: nowhere: no such run or model" in err and not steps


def test_a_group_is_verified_from_one_start(ladder, capsys, steps):
    assert ends(capsys, "run", "ladder")[0] == 0
    code, printed, _ = ends(capsys, "verify", "ladder", "--start", str(out("1-base")), "--out", "again")
    assert code == 0 and printed.count("agrees with") == 2 and len(steps) == 20


def test_a_recipe_that_cannot_be_read_ends_its_group_before_anything_is_trained(ladder, capsys, steps):
    third = ladder / "3-alone" / "recipe.toml"
    third.write_text(third.read_text().replace("steps", "stpes"))
    code, _, err = ends(capsys, "run", "ladder")
    assert code == 2 and "stpes" in err and not steps


def test_a_measurement_says_how_it_is_run(ladder, capsys):
    folder = ladder.parent / "clock"
    folder.mkdir()
    for place in (folder, ladder):
        (place / "README.md").write_text("# a\n\n```\npython recipes/clock/figure.py [SECONDS]\n```\n")
    for name in ("clock", "recipes/clock"):
        code, _, err = ends(capsys, "run", name)
        assert code == 2 and f"{name}: holds no recipe.toml" in err
        assert f"run by `python recipes/clock/figure.py [SECONDS]`, as {folder / 'README.md'} says" in err
    code, _, err = ends(capsys, "run", "recipes/ladder")
    assert "the folder holds no recipe.toml" in err, "a group is no measurement"
