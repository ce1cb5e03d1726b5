"""Runs are read strictly: the newest whole checkpoint, exactly the model's tensors, or an error."""

import json
import random
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from cutaway import spec
from cutaway.data.tokenizer import byte_tokenizer, subword_tokenizer
from cutaway.errors import ConfigError, FileFormatError, InputMissingError
from cutaway.models import build
from cutaway.weights import list_checkpoints, newest_checkpoint, read_run
from tests.unit.weights.saved import MODEL, save_checkpoint, save_run


@pytest.fixture
def run(tmp_path):
    return save_run(tmp_path / "run")


def is_of_step(model, step: int) -> bool:
    expected = dict(build(MODEL, seed=step).named_parameters())
    return all(torch.equal(parameter, expected[name]) for name, parameter in model.named_parameters())


def test_the_newest_checkpoint_is_read_or_the_one_asked_for(run):
    found = read_run(run)
    assert (found.step, found.folder.name) == (10, "step-000010") and is_of_step(found.model, 10)
    assert not is_of_step(found.model, 5)
    assert not found.model.training and found.recipe.run.length == 8 and found.model.plan == MODEL
    assert is_of_step(read_run(run, step=5).model, 5)
    assert is_of_step(read_run(run / "checkpoints" / "step-000005").model, 5)
    assert is_of_step(read_run(str(run)).model, 10)


def test_steps_are_ordered_as_numbers(tmp_path):
    run = save_run(tmp_path, steps=(999_999, 1_000_000, 20))
    assert [path.name for path in list_checkpoints(run)] == ["step-000020", "step-999999", "step-1000000"]
    assert newest_checkpoint(run).name == "step-1000000"


@pytest.mark.parametrize("dtype", ["bf16", torch.bfloat16, torch.float64, "fp32"], ids=str)
def test_dtype_by_choice(run, dtype):
    expected = {"bf16": torch.bfloat16, "fp32": torch.float32}.get(dtype, dtype)
    assert {parameter.dtype for parameter in read_run(run, dtype=dtype).model.parameters()} == {expected}


@pytest.mark.parametrize("dtype", ["fp16x", "", torch.int64, 3], ids=str)
def test_another_dtype_is_refused(run, dtype):
    with pytest.raises(ConfigError, match="dtype"):
        read_run(run, dtype=dtype)


def damage(path, how: str, place: random.Random) -> None:
    data = bytearray(path.read_bytes())
    where = place.randrange(len(data))
    match how:
        case "flip":
            data[where] ^= 1 << place.randrange(8)
        case "truncate":
            del data[where:]
        case "delete":
            return path.unlink()
        case "insert":
            data.insert(where, 0)
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["flip", "truncate", "delete", "insert"])
@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over_by_name_and_refused_where_asked_for(run, how, name):
    folder = run / "checkpoints" / "step-000010"
    damage(folder / name, how, random.Random(f"{how} {name}"))
    with pytest.warns(UserWarning, match=r"step-000010/.*trying the checkpoint before it"):
        assert is_of_step(read_run(run).model, 5)
    for path, step in ((run, 10), (folder, None)):
        with pytest.raises(FileFormatError, match="step-000010/"):
            read_run(path, step=step)


def test_with_every_checkpoint_damaged_the_newest_is_named(run):
    for folder in list_checkpoints(run):
        damage(folder / "model.safetensors", "truncate", random.Random(0))
    with pytest.raises(FileFormatError, match="step-000010/model"):
        read_run(run)


def weights(seed: int = 10) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in build(MODEL, seed=seed).named_parameters()}


@pytest.mark.parametrize("name", list(weights()))
@pytest.mark.parametrize("how", ["drop", "rename", "add", "reshape", "cast"])
def test_every_tensor_must_be_there_as_itself(run, name, how):
    tensors = weights()
    tensor = tensors[name]
    match how:
        case "drop":
            del tensors[name]
        case "rename":
            tensors[name + "_"] = tensors.pop(name)
        case "add":
            tensors[name + "_"] = tensor.clone()
        case "reshape":
            tensors[name] = tensor[:-1].clone()
        case "cast":
            tensors[name] = tensor.double()
    save_checkpoint(run, 11, tensors)
    with pytest.raises(FileFormatError) as caught:
        read_run(run)
    message = str(caught.value)
    assert name in message and "step-000011/model.safetensors" in message and "\n" not in message
    if how in ("rename",):
        assert f"{name}_ (did you mean {name}?)" in message


def test_transposed_squares_cannot_be_told_but_other_matrices_are(run):
    tensors = weights()
    tensors["blocks.0.ffn.up.weight"] = tensors["blocks.0.ffn.up.weight"].T.contiguous()
    save_checkpoint(run, 11, tensors)
    with pytest.raises(FileFormatError, match=r"blocks.0.ffn.up.weight has shape \(16, 64\).*\(64, 16\)"):
        read_run(run)


def test_a_tokenizer_of_more_ids_than_the_model_has_is_refused_with_both(tmp_path):
    tokenizer = subword_tokenizer(["ab ab abc abcd abcde " * 50], 262)
    run = save_run(tmp_path, tokenizer=tokenizer)
    with pytest.raises(FileFormatError, match=rf"tokenizer.json: {tokenizer.vocab} ids, .* 257"):
        read_run(run)
    wider = save_run(tmp_path / "wider", model=replace(MODEL, input=spec.Tokens(300)))
    assert read_run(wider).tokenizer.vocab == byte_tokenizer().vocab  # rows too many are allowed


def test_another_tokenizer_of_as_many_ids_is_refused(tmp_path):
    own, other = (
        subword_tokenizer([text * 50], 262) for text in ("ab ab abc abcd abcde ", "xy xy xyz xyzw x ")
    )
    run = save_run(tmp_path, tokenizer=own, model=replace(MODEL, input=spec.Tokens(262)))
    assert own.vocab == other.vocab and read_run(run).tokenizer.digest == own.digest
    (run / "tokenizer.json").write_text(other.to_json())
    with pytest.raises(
        FileFormatError, match=r"tokenizer.json: not the tokenizer .* trained with .*restore it"
    ):
        read_run(run)


@pytest.mark.parametrize("kind", ["absent", "empty", "file", "elsewhere", "no checkpoint"])
def test_what_is_no_run_is_refused_with_what_would_be_one(tmp_path, kind):
    path = tmp_path / "thing"
    match kind:
        case "empty":
            path.mkdir()
        case "file":
            path.write_text("weights")
        case "elsewhere":
            (path := path / "step-000001").mkdir(parents=True)
        case "no checkpoint":
            save_run(path, steps=())
    message = "no checkpoint yet" if kind == "no checkpoint" else "run directory .* checkpoint in it"
    with pytest.raises(InputMissingError, match=message):
        read_run(path)


def test_a_step_that_was_not_saved_is_refused_with_those_that_were(run):
    with pytest.raises(InputMissingError, match=r"no checkpoint at step 7; known: 5, 10"):
        read_run(run, step=7)
    with pytest.raises(ConfigError, match="leave out step 5"):
        read_run(run / "checkpoints" / "step-000010", step=5)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("spec.json", "{"),
        ("spec.json", "{}"),
        ("spec.json", json.dumps({"format": 1, "kind": "Singel"})),
        ("spec.json", "[1]"),
        ("recipe.toml", "name = "),
        ("recipe.toml", "nmae = 'x'"),
        ("tokenizer.json", "{}"),
        ("facts.json", "{}"),
        ("facts.json", "{"),
    ],
)
def test_a_damaged_file_of_the_run_is_named(run, name, text):
    (run / name).write_text(text)
    with pytest.raises(FileFormatError, match=name) as caught:
        read_run(run)
    assert "\n" not in str(caught.value)


def test_without_its_facts_nothing_tells_whose_the_tokenizer_is(run):
    (run / "facts.json").unlink()
    with pytest.raises(InputMissingError, match=r"facts\.json: missing, so nothing tells"):
        read_run(run)


def test_weights_are_mapped_and_the_file_is_never_written(run):
    path = run / "checkpoints" / "step-000010" / "model.safetensors"
    before = path.read_bytes()
    model = read_run(run).model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert path.read_bytes() == before


MEASURE = """
import sys, torch
from cutaway.weights import read_run
def private():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("RssAnon"))
read_run(sys.argv[1])  # what torch brings with it counts before
before = private()
model = read_run(sys.argv[2]).model
total = sum(float(p.sum()) for p in model.parameters())
print((private() - before) * 1024, sum(p.numel() * 4 for p in model.parameters()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_costs_no_second_copy(tmp_path):
    tiny = save_run(tmp_path / "tiny", steps=(1,))
    large = save_run(tmp_path / "large", steps=(1,), model=spec.small(2, 640, 4, vocab=20_000))
    command = [sys.executable, "-c", MEASURE, tiny, large]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    private, weights = map(int, done.stdout.split())
    assert weights > 90e6 and private < 0.1 * weights
