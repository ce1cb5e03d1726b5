"""From text to report on the command line: one tiny run, then every command that reads a run."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cutaway.app.cli import main
from cutaway.errors import ConfigError, InputMissingError, LimitError
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import shipped_recipes
from cutaway.train.request import train_recipe

TEXT = "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer\n" * 40
SMALL = ("--steps", "4", "--batch", "2", "--threads", "1", "--precision", "fp32")


@pytest.fixture(autouse=True)
def names_tell_shapes():
    """Nobody watches shapes here: `switch_off` makes one row many in the middle of a block."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with a text and a cache of its own."""
    made = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.setenv("CUTAWAY_HOME", str(made / "cache"))
        Path("text.txt").write_text(TEXT)
        yield made


@pytest.fixture(scope="module")
def run(place):
    """A run of a language model, and what its training said as JSON."""
    arguments = (
        "--data.tokenizer",
        "bytes",
        "--model.layers",
        "2",
        "--model.width",
        "32",
        "--model.heads",
        "2",
        "--length",
        "32",
    )
    looks = ("--evaluate", "2", "--sample", "2", "--save", "2", "--out", "runs/small")
    assert main(["train", "text.txt", *SMALL, *arguments, *looks]) == 0
    return "runs/small"


@pytest.fixture(scope="module")
def pair(place):
    """A run of an encoder-decoder."""
    arguments = ("--model.layers", "1", "--model.width", "16", "--model.heads", "2", "--model.hidden", "16")
    assert main(["train", "reverse", *SMALL, *arguments, "--out", "runs/pair"]) == 0
    return "runs/pair"


def said(capsys, *arguments, code=0):
    capsys.readouterr()
    assert main(list(arguments)) == code
    return capsys.readouterr().out


def told(capsys, *arguments):
    return json.loads(said(capsys, *arguments, "--json"))


def test_a_run_leaves_its_files(run):
    names = {path.name for path in Path(run).iterdir()}
    assert {
        "recipe.toml",
        "spec.json",
        "tokenizer.json",
        "facts.json",
        "metrics.jsonl",
        "report.html",
    } <= names
    lines = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    assert sum("loss" in line for line in lines) == 4 and any("sample" in line for line in lines)


@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_cannot_begin_leaves_nothing(place, capsys, there):
    """Neither folders nor files of its own, and what was there stays as it was."""
    Path("short.txt").write_text("too short")
    if there:
        Path("kept").mkdir()
        Path("kept/notes").write_text("mine")
    for text, code in (("short.txt", ConfigError.exit_code), ("gone.txt", InputMissingError.exit_code)):
        assert main(["train", "stdlib", "--data", text, "--out", "kept" if there else "kept/a/run"]) == code
        assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in Path().glob("kept/*")] == (["notes"] if there else [])
    assert Path("kept").exists() == there


def test_a_run_is_not_written_over(run, capsys):
    assert main(["train", "text.txt", "--out", run]) == 73
    assert capsys.readouterr().err.count("\n") == 1


def test_a_finished_run_can_be_gone_on_with(run, capsys):
    before = (Path(run) / "metrics.jsonl").read_bytes()
    again = ("./text.txt", "--resume", "--out", run)  # the same text, spelled in another way
    for arguments in ((run, "--resume"), ("--resume", "--out", run), ("--resume", f"--out={run}"), again):
        outcome = told(capsys, "train", *arguments)
        assert outcome["out"] == run and outcome["figures"]["bits_per_byte"] > 0
    assert set(outcome["baselines"]) == {"unigram_bits_per_byte", "trigram_bits_per_byte"}
    assert (Path(run) / "metrics.jsonl").read_bytes() == before


ASKED = ("--model.width", "32", "--model.heads", "2", "--model.layers", "2")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("text.txt", "--steps", "9"), "run.steps: 4 in this run, 9 asked for"),
        (("text.txt", "--steps", "900"), "run.steps: 4 in this run, 900 asked for"),  # as stdlib has it
        (("RUN", "--steps", "9"), "run.steps: 4 in this run, 9 asked for"),
        (("text.txt", *ASKED[:-1], "3"), "model.stack.layers: 2 in this run, 3 asked for"),
        (("text.txt", "--data.tokenizer", "bpe"), "data.tokenizer: bytes in this run, bpe asked for"),
        (
            ("text.txt", "--data", "other.txt"),
            "data.source: ['text.txt'] in this run, ['other.txt'] asked for",
        ),
        (("stdlib",), "name: text in this run, stdlib asked for"),
    ],
)
def test_a_run_that_goes_on_refuses_other_values(run, capsys, arguments, said):
    before = {path: path.read_bytes() for path in Path(run).iterdir() if path.is_file()}
    given = [run if argument == "RUN" else argument for argument in arguments]
    assert main(["train", *given, "--out", run, "--resume"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith(f"cutaway: {run}/recipe.toml: {said}"), told.err
    assert told.err.count("\n") == 1 and "begin a new run with another --out" in told.err
    assert {path: path.read_bytes() for path in Path(run).iterdir() if path.is_file()} == before


def test_a_run_goes_on_with_the_values_it_has(run, capsys):
    for arguments in ((*SMALL, "--data.tokenizer", "bytes", *ASKED), ("--save", "2"), ("--data", "text.txt")):
        assert told(capsys, "train", "text.txt", *arguments, "--out", run, "--resume")["out"] == run
    resolved = said(capsys, "train", "text.txt", "--out", run, "--resume", "--print-config")
    assert resolved == (Path(run) / "recipe.toml").read_text()


def test_a_recipe_goes_on_by_name_whatever_it_was_begun_with(place, capsys, monkeypatch):
    """As `make demo` does; the bar counts the run's own steps."""
    arguments = ("--data", "text.txt", "--data.split", "tail", "--data.tokenizer", "bytes", "--length", "16")
    begin = ("stdlib", *SMALL, *arguments, "--model.layers", "1", "--out", "runs/demo")
    before = told(capsys, "train", *begin)
    counted = []
    monkeypatch.setattr("cutaway.app.progress.Lines.__init__", lambda self, steps: counted.append(steps))
    assert "trained on" in said(capsys, "train", "stdlib", "--out", "runs/demo", "--resume")
    assert counted == [4]
    assert told(capsys, "train", "stdlib", "--out", "runs/demo", "--resume")["figures"] == before["figures"]


def test_the_vocabulary_is_no_option_for_it_follows_from_the_data(place, capsys):
    assert main(["train", "stdlib", "--model.vocab", "300", "--print-config"]) == 2
    assert "unrecognized options: --model.vocab" in capsys.readouterr().err


LEARNED = """
name = "learned"
model = {preset = "gpt2", layers = 1, width = 16, heads = 2, length = 24}
data = {kind = "Text", source = ["line.txt"], tokenizer = "characters", split = "tail"}
run = {steps = 2, batch = 2, length = 24, threads = 1, precision = "fp32", sample = 1}
"""


def test_few_positions_and_no_newline_leave_something_to_sample(place, capsys):
    Path("line.txt").write_text("to be or not to be " * 60)
    Path("learned.toml").write_text(LEARNED)
    assert len(told(capsys, "train", "learned.toml", "--out", "runs/learned")["sample"]) == 24
    lines = [json.loads(line) for line in Path("runs/learned/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "sample" in line] == [1, 2]


def test_examples_of_strings_have_the_tasks_own_letters(place, capsys):
    shape = ("--model.layers", "1", "--model.width", "16", "--model.heads", "2", "--model.hidden", "16")
    letters = ("--data.letters", "20", "--out", "runs/letters")
    outcome = told(capsys, "train", "reverse", *SMALL, *shape, *letters)
    assert [line.split(" -> ")[0] for line in outcome["sample"].split("\n")] == ["Rcatacae", "Scatacae"]


def test_a_sample_that_fails_is_a_warning(place, capsys, monkeypatch):
    def fail(task, model):
        raise LimitError("nothing to say")

    monkeypatch.setattr("cutaway.train.language.Language.sample", fail)
    shape = "--model.layers 1 --model.width 16 --model.heads 2"
    arguments = f"--data.tokenizer bytes {shape} --length 16".split()
    assert main(["train", "text.txt", *SMALL, *arguments, "--out", "runs/silent"]) == 0
    found = capsys.readouterr()
    assert "whole validation data" in found.out and (place / "runs/silent/report.html").exists()
    assert found.err == (
        "cutaway: warning: step 4: no sample: nothing to say\ncutaway: warning: no sample: nothing to say\n"
    )


def test_the_outcome_for_people(run, capsys):
    out = said(capsys, "train", run, "--resume")
    for words in (
        "whole validation data: validation",
        "by counting alone: unigram",
        "a sample:",
        "report: runs",
    ):
        assert words in out


def test_generate_streams_what_json_tells(run, capsys):
    arguments = ("generate", "-m", run, "To be", "--max-tokens", "12", "--seed", "3", "--top-k", "5")
    whole = told(capsys, *arguments)
    assert said(capsys, *arguments) == whole["text"] + "\n"
    assert len(whole["tokens"]) == 12 and whole["seed"] == 3 and whole["finish"] == "length"
    assert told(capsys, *arguments[:-4], "--seed", "4")["tokens"] != whole["tokens"]


def test_a_stop_string_ends_the_text(run, capsys):
    arguments = ("generate", "-m", run, "To be", "--max-tokens", "30", "--seed", "3")
    text = told(capsys, *arguments)["text"]
    stop = text[2:4]
    stopped = told(capsys, *arguments, "--stop", stop)
    assert stopped["finish"] == "stop" and stopped["text"] == text[: text.index(stop)]


REPLACE = ("study", "replace", "-m", "RUN", "x", "--at", "blocks.0.out", "--other", "y")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("generate", "-m", "nowhere", "x"), 66),
        (("generate", "-m", "RUN", "x", "--temperature", "-1"), 64),
        (("generate", "-m", "RUN", "x", "--max-tokens", "0"), 64),
        (("study", "trace", "-m", "RUN", "x", "--keep", "blocks.9.out"), 64),
        (("study", "skip", "-m", "RUN", "x", "--at", "blocks.9"), 64),
        (("study", "ablate", "-m", "RUN", "x", "--at", "blocks.0.attn.mix", "--heads", "9"), 64),
        (("study", "replace", "-m", "RUN", "x", "--at", "blocks.0.out", "--other", "longer"), 64),
        ((*REPLACE, "--positions", "99"), 64),
        ((*REPLACE, "--positions", "-1"), 64),
        (("study", "lens", "-m", "RUN", "x", "--best", "-1"), 64),
        (("study", "switch-off", "-m", "RUN", "xy", "--best", "0"), 64),
        (("report", "-m", "RUN", "--text", "nowhere"), 66),
    ],
)
def test_errors_of_reading_a_run(run, capsys, arguments, code):
    capsys.readouterr()
    assert main([run if argument == "RUN" else argument for argument in arguments]) == code
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("cutaway: ") and told.err.count("\n") == 1


def test_trace(run, capsys, place):
    found = told(capsys, "study", "trace", "-m", run, "To be", "--keep", "blocks.*.attn.pattern")
    assert [entry["name"] for entry in found] == ["blocks.0.attn.pattern", "blocks.1.attn.pattern"]
    assert found[0]["shape"] == [1, 2, 5, 5] and found[0]["most"] == 1.0
    assert found[0]["mean"] == pytest.approx(1 / 5), "rows of a pattern sum to 1"
    said(capsys, "study", "trace", "-m", run, "To be", "--keep", "blocks.0.out", "--out", "seen.safetensors")
    from safetensors.numpy import load_file

    assert load_file(place / "seen.safetensors")["blocks.0.out"].shape == (1, 5, 32)


def test_changes_say_what_they_change(run, capsys):
    text = ("-m", run, "To be, or")
    ablated = told(capsys, "study", "ablate", *text, "--at", "blocks.*.ffn.out")
    assert ablated["before"]["loss"] != ablated["after"]["loss"]
    skipped = told(capsys, "study", "skip", *text, "--at", "blocks.*.ffn")
    assert skipped["after"]["loss"] == pytest.approx(ablated["after"]["loss"], abs=1e-6)
    same = told(capsys, "study", "replace", *text, "--at", "blocks.1.out", "--other", "To be, or")
    assert same["after"] == same["before"]
    other = told(capsys, "study", "replace", *text, "--at", "blocks.1.out", "--other", "ab cd, ef")
    assert other["after"] != other["before"]
    last = told(
        capsys, "study", "replace", *text, "--at", "blocks.1.out", "--other", "ab cd, ef", "--positions", "8"
    )
    assert last["after"]["next"] == other["after"]["next"] and last["after"]["loss"] == last["before"]["loss"]


def test_lens_and_switch_off(run, capsys):
    from cutaway import load

    lens = told(capsys, "study", "lens", "-m", run, "To be, or")
    assert [entry["name"] for entry in lens] == ["blocks.0.in", "blocks.0.out", "blocks.1.out"]
    assert lens[-1]["loss"] == pytest.approx(load(run).loss("To be, or").nats, abs=1e-5)
    off = told(capsys, "study", "switch-off", "-m", run, "To be, or")
    changes = [part["change"] for part in off["parts"]]
    assert changes == sorted(changes, reverse=True) and off["loss"] == pytest.approx(
        lens[-1]["loss"], abs=1e-5
    )
    assert "with all parts: loss" in said(capsys, "study", "switch-off", "-m", run, "To be, or")


def test_a_pair_is_studied_with_its_target(pair, capsys):
    text = ("-m", pair, "Rabc", "--target", "cba")
    found = told(capsys, "study", "ablate", *text, "--at", "decoder.blocks.*.cross.mix")
    assert found["before"]["loss"] is not None
    assert main(["study", "lens", "-m", pair, "Rabc"]) == 64
    assert told(capsys, "generate", "-m", pair, "Rabc", "--max-tokens", "4")["tokens"]


def test_a_pair_of_shorter_strings_is_trained(place, capsys):
    small = ("--model.layers", "1", "--model.width", "16", "--model.heads", "2", "--model.hidden", "16")
    told = json.loads(
        said(
            capsys,
            "train",
            "reverse",
            *SMALL,
            *small,
            "--data.longest",
            "10",
            "--out",
            "runs/short",
            "--json",
        )
    )
    assert "exact_lengths" in told["figures"]
    capsys.readouterr()
    assert main(["train", "reverse", "--data.longest", "2"]) == 2
    assert "data.longest: 2 leaves no length" in capsys.readouterr().err


def test_a_report_of_ones_own_text(run, pair, capsys, place):
    for arguments in (
        ("-m", run, "--text", "text.txt"),
        ("-m", pair, "--text", "source", "--target", "target"),
    ):
        (place / "source").write_text("Rabc")
        (place / "target").write_text("cba")
        assert said(capsys, "report", *arguments, "--out", "page.html") == "report: page.html\n"
        assert (place / "page.html").read_text().startswith("<!doctype html>")


def test_a_recipe_is_trained_and_verified(place, capsys):
    made = place / "tiny"
    made.mkdir()
    shipped = shipped_recipes()["shakespeare-small"]
    recipe = (shipped / "recipe.toml").read_text().replace('"shakespeare-small"', '"tiny"')
    for old, new in (
        (r"^steps = \d+$", "steps = 3\nthreads = 1\nprecision = 'fp32'"),
        (r"^batch = \d+$", "batch = 2"),
        (r"^length = \d+$", "length = 16"),
    ):
        recipe, found = re.subn(old, new, recipe, flags=re.MULTILINE)
        assert found == 1
    (made / "recipe.toml").write_text(recipe)
    (made / "expected.json").write_bytes((shipped / "expected.json").read_bytes())
    given = ("--data", "text.txt")
    written = told(capsys, "recipes", "run", "tiny", "--seed", "1", *given)
    saved = json.loads((made / "results" / "seed-1.json").read_text())
    assert (
        saved == written
        and saved["value"] == saved["figures"]["validation"]
        and saved["tokens"] == 3 * 2 * 16
    )
    out = ("--out", "runs/again")
    verdict = told(capsys, "recipes", "verify", "tiny", "--seed", "1", *given, *out)
    assert verdict["agrees"] and verdict["value"] == saved["value"], "the same seed gives the same weights"
    (made / "results" / "seed-1.json").write_text(json.dumps(saved | {"value": saved["value"] + 1}))
    assert "DIFFERS" in said(
        capsys, "recipes", "verify", "tiny", "--seed", "1", *given, "--out", "runs/third", code=1
    )


def test_looking_into_a_pair_wants_a_target(pair, capsys):
    assert main(["study", "trace", "-m", pair, "Rabc"]) == LimitError.exit_code
    assert capsys.readouterr().err == (
        f"cutaway: --target: {pair} is an encoder-decoder; say what it should write\n"
    )


def test_the_page_of_a_pair_shows_what_it_writes_itself(run, pair, capsys):
    arguments = ("--text", "source", "--out", "own.html")
    Path("source").write_text("Rabc\n")  # the end of the line is none of the source
    assert said(capsys, "report", "-m", pair, *arguments) == "report: own.html\n"
    assert "what the model itself writes" in Path("own.html").read_text("utf-8")
    assert main(["report", "-m", run, *arguments, "--target", "source"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"cutaway: --target: {run}") and "leave the option" in err and err.count("\n") == 1


@pytest.fixture
def questions(place):
    """A folder with labelled sentences, as bert-small reads them."""
    folder = place / "questions"
    (folder / "sst2").mkdir(parents=True, exist_ok=True)
    kinds = "\n".join(f"{number % 6} what is the number {number} ?" for number in range(90))
    for name in ("TREC.train.all", "TREC.test.all"):
        (folder / name).write_text(kinds)
    rows = "\n".join(f"number {number} is here\t{number % 2}" for number in range(90))
    (folder / "sst2" / "train.tsv").write_text(f"sentence\tlabel\n{rows}")
    for name in ("wordnet.txt", "thesaurus.txt", "films.txt"):
        (folder / name).write_text(f"noun number : a concept of quantity in {name}")
    return str(folder)


def test_a_member_of_a_group_begins_with_another_beside_it(questions, capsys):
    given = (*SMALL, "--evaluate", "2", "--data", questions)
    assert main(["train", "bert-small/4-trec", *given]) == InputMissingError.exit_code
    err = capsys.readouterr().err
    assert err.startswith("cutaway: start: runs/bert-small/1-pretrain: no such run") and err.count("\n") == 1
    assert not Path("runs/bert-small").exists()
    Path("runs/bert-small/1-pretrain-seed-3").mkdir(parents=True)
    with pytest.raises(
        InputMissingError, match="train bert-small/1-pretrain first, or name one of runs/bert-"
    ):
        train_recipe("bert-small/4-trec")  # from Python it is the same
    shutil.rmtree("runs/bert-small")
    assert told(capsys, "train", "bert-small/1-pretrain", *given)["out"] == "runs/bert-small/1-pretrain"
    first = told(capsys, "train", "bert-small/4-trec", *given)
    again = told(capsys, "train", "bert-small/4-trec", *given, "--resume")
    assert first["out"] == again["out"] == "runs/bert-small/4-trec"
    assert 'start = "runs/bert-small/1-pretrain"' in Path(first["out"], "recipe.toml").read_text()
    recipe = replace(read_recipe(Path(first["out"], "recipe.toml")), start="1-pretrain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cutaway.train.request.read_recipe", lambda _: recipe)
        python = train_recipe("bert-small/4-trec", out="runs/bert-small/again")
        other = train_recipe("bert-small/4-trec", out="runs/bert-small/other", start="")
    assert python.figures == first["figures"] != other.figures
    anew = told(capsys, "train", "bert-small/4-trec", *given, "--start", "", "--out", "runs/anew")
    assert 'start = ""' in Path(anew["out"], "recipe.toml").read_text()


def test_data_names_the_folder_of_pairs(place, capsys):
    pytest.importorskip("sacrebleu")
    Path("pairs").mkdir()
    for part in ("train", "val", "test_2016_flickr"):
        for language in ("de", "en"):
            Path("pairs", f"{part}.{language}").write_text("ein Satz hier\nnoch einer\n" * 20)
    small = ("--model.layers", "1", "--model.width", "16", "--model.heads", "2", "--model.hidden", "16")
    given = ("translate-quick", "--steps", "2", "--batch", "128", "--threads", "1", "--evaluate", "0", *small)
    assert main(["train", *given, "--data", "pairs", "pairs", "--out", "runs/translated"]) == 2
    assert "reads one folder" in capsys.readouterr().err
    for data in (("pairs",), ("./pairs", "--resume")):
        outcome = told(capsys, "train", *given, "--data", *data, "--out", "runs/translated")
        assert "test_bleu" in outcome["figures"]
    reference = ("--reference", "pairs/train.en", "--max-tokens", "2")
    assert main(["translate", "-m", "runs/translated", "pairs/train.de", *reference]) == 0
    assert "case:lc" in capsys.readouterr().err  # the recipe is in lower case
