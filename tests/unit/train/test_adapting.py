"""Fine-tuning runs: what stands still stays to the bit, what is saved, resumed to the last byte, starts."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cutaway import load, spec, study
from cutaway.data.tokenizer import byte_tokenizer
from cutaway.errors import ConfigError, FileFormatError, InputMissingError
from cutaway.models import build
from cutaway.models.adapt import adapters, merged_weights, still, trained
from cutaway.session import Session
from cutaway.train import records
from cutaway.train.optim import Optimizers
from cutaway.train.runner import Runner
from cutaway.train.signals import RunInterruptedError
from cutaway.train.start import digest_of, read_start
from cutaway.weights.run import list_checkpoints
from cutaway.weights.safe import read_tensors
from tests.unit.train.tiny import RUN, Stop, remains, train

SHAPE = spec.small(layers=2, width=16, heads=2, vocab=260)  # three more vectors than its tokenizer has ids
LORA = spec.LoRA(rank=2, dropout=0.1, targets=("**.attn.*", "**.ffn.up"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published model, of Qwen3's shape, with bytes for tokens."""
    session = Session(build(SHAPE, 5).eval(), byte_tokenizer(), 32)
    return session.save_pretrained(tmp_path_factory.mktemp("published") / "model")


def recipe(start: Path | str, text: Path, **values) -> spec.Recipe:
    data = spec.Text((str(text),), tokenizer="bytes", split="tail")
    run = replace(RUN, **({"steps": 4} | values.pop("run", {})))
    return spec.Recipe("fine", values.pop("model", None), data, run, str(start), **values)


def parameters(session: Session) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in session.model.named_parameters()}


def test_a_published_model_is_trained_without_naming_its_shape(folder, text, tmp_path):
    out = train(recipe(folder, text), tmp_path / "run")
    made, base = load(out), load(folder)
    assert made.spec == base.spec and made.spec.input.vocab == 260
    assert made.tokenizer.digest == base.tokenizer.digest and made.tokenizer.ends == base.tokenizer.ends
    for name, value in parameters(base).items():
        assert not torch.equal(value, parameters(made)[name]), name
    assert not (out / "frozen").exists()
    facts = json.loads((out / "facts.json").read_text())
    assert facts["start"] == digest_of(base.model) and "trained" not in facts


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", [spec.AdamW(rate=1e-2), spec.Muon()], ids=["adamw", "muon"])
def test_what_stands_still_stays_and_costs_nothing(precision, optimizer, folder, text, tmp_path):
    plan = recipe(folder, text, adapter=LORA, run={"precision": precision, "optimizer": optimizer})
    out = train(plan, tmp_path / "run")
    made, base = load(out), load(folder)
    assert adapters(made.model).keys() == {
        f"blocks.{depth}.{name}"
        for depth in range(2)
        for name in ("attn.query", "attn.key", "attn.value", "attn.out", "ffn.up")
    }
    for name, value in parameters(base).items():
        assert torch.equal(value, parameters(made)[name]), name
    for name, layer in adapters(made.model).items():
        assert layer.lora_b.any() and (layer.rank, layer.alpha, layer.dropout) == (2, 16.0, 0.1), name
    newest = list_checkpoints(out)[-1]
    assert read_tensors(newest / "model.safetensors").keys() == trained(made.model).keys()
    stepped = {key.partition("/")[0] for key in read_tensors(newest / "training.safetensors")}
    assert stepped == trained(made.model).keys()
    assert read_tensors(out / "frozen" / "model.safetensors").keys() == still(made.model).keys()
    assert json.loads((out / "facts.json").read_text())["trained"] == sum(
        parameter.numel() for parameter in trained(made.model).values()
    )


def test_a_backward_pass_leaves_no_gradient_where_nothing_is_trained(folder, text, tmp_path):
    training, task = Runner(recipe(folder, text, adapter=LORA), tmp_path / "run").begin()
    model = training.working.master
    task.loss(model, task.parts(0)[0], 1).backward()
    assert all(parameter.grad is None for parameter in still(model).values())
    assert all(parameter.grad is not None for parameter in trained(model).values())
    assert isinstance(training.optimizers, Optimizers)
    assert set(training.optimizers.names.values()) == trained(model).keys()


def test_the_first_loss_is_the_loss_of_the_start(folder, text, tmp_path):
    plan = recipe(folder, text, adapter=replace(LORA, dropout=0.0))
    training, task = Runner(plan, tmp_path / "run").begin()
    batch, base = task.parts(0)[0], load(folder)
    assert torch.equal(task.loss(training.working.master.eval(), batch, 7), task.loss(base.model, batch, 7))


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_adapters_learn_and_write_the_same(folder, text, tmp_path):
    torch.compiler.reset()
    made = {}
    for mode in ("off", "on"):
        run = {"compile": mode, "precision": "fp32", "optimizer": spec.AdamW(rate=1e-2)}
        plan = recipe(folder, text, adapter=replace(LORA, dropout=0.0), run=run)
        made[mode] = load(train(plan, tmp_path / mode))
    for name, value in trained(made["off"].model).items():
        assert value.any(), name
        torch.testing.assert_close(trained(made["on"].model)[name], value, rtol=1e-3, atol=1e-4)
    plain = made["on"].generate("ab", max_tokens=12, temperature=0)
    assert made["on"].compile().generate("ab", max_tokens=12, temperature=0) == plain


@pytest.mark.parametrize(
    "part",
    [{"adapter": LORA}, {"frozen": ("input.**", "blocks.0.**")}, {}],
    ids=["adapter", "frozen", "all"],
)
def test_resumed_to_the_last_byte_without_the_start(part, folder, text, tmp_path):
    start = tmp_path / "start"
    shutil.copytree(folder, start)
    plan = recipe(start, text, run={"evaluate": 2}, **part)
    whole = train(plan, tmp_path / "whole")
    with pytest.raises(RunInterruptedError):
        train(plan, tmp_path / "run", say=Stop(2))
    shutil.rmtree(start)
    out = train(plan, tmp_path / "run", resume=True)
    assert remains(out) == remains(whole)
    if part:
        assert (out / "frozen/model.safetensors").read_bytes() == (
            whole / "frozen/model.safetensors"
        ).read_bytes()
        assert "input.token.weight" in still(load(out).model)


def test_before_the_first_checkpoint_the_start_must_be_the_same(folder, text, tmp_path):
    start = tmp_path / "start"
    shutil.copytree(folder, start)
    plan = recipe(start, text, adapter=LORA)
    whole = train(plan, tmp_path / "whole")
    for name in ("run", "other"):
        Runner(plan, tmp_path / name).begin()
    assert remains(train(plan, tmp_path / "run", resume=True)) == remains(whole)
    shutil.rmtree(start)
    Session(build(SHAPE, 6).eval(), byte_tokenizer(), 32).save_pretrained(start)
    with pytest.raises(ConfigError, match="other weights than when the run began"):
        train(plan, tmp_path / "other", resume=True)


def test_weights_that_stand_still_are_checked_before_they_are_used(folder, text, tmp_path):
    out = train(recipe(folder, text, adapter=LORA), tmp_path / "run")
    kept = out / "frozen" / "model.safetensors"
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    kept.write_bytes(data)
    with pytest.raises(FileFormatError, match="damaged"):
        load(out)
    shutil.rmtree(out / "frozen")
    with pytest.raises(InputMissingError, match=r"frozen: missing, and it holds weights"):
        load(out)


def test_an_adapted_run_is_merged_as_a_start_and_when_written(folder, text, tmp_path):
    out = train(recipe(folder, text, adapter=LORA), tmp_path / "run")
    adapted, written = load(out), load(load(out).save_pretrained(tmp_path / "out"))
    assert not adapters(written.model) and written.spec == adapted.spec
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        logits = adapted.model(tokens)
        assert torch.allclose(written.model(tokens), logits, rtol=0, atol=1e-5)
        assert (load(folder).model(tokens) - logits).abs().max() > 1e-3
    begun, _ = Runner(recipe(out, text), tmp_path / "again").begin()
    merged = merged_weights(adapted.model)
    assert {name: torch.equal(p, merged[name]) for name, p in begun.working.master.named_parameters()} == (
        dict.fromkeys(merged, True)
    )
    seen = study.trace(adapted, "some text", keep=["blocks.1.attn.pattern", "logits"])
    assert seen["blocks.1.attn.pattern"].shape == (1, 2, 9, 9)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("labelled")
    for name in ("train", "test"):
        rows = (f"{'no' if i % 3 else 'yes'} sentence {i} of {i % 7} words\n" for i in range(100))
        (made / f"{name}.txt").write_text("".join(rows))
    return made


def sorting(start: Path, lines: Path, **values) -> spec.Recipe:
    data = spec.Labelled(str(lines), "train.txt", "test.txt")
    head = spec.Classify(2, "mean")
    return spec.Recipe("sorts", None, data, replace(RUN, steps=4, length=32), str(start), head, **values)


def test_another_head_is_given_by_itself(folder, lines, tmp_path):
    out = train(sorting(folder, lines, adapter=replace(LORA, whole=("head.**",))), tmp_path / "run")
    made = load(out)
    assert made.spec == replace(load(folder).spec, head=spec.Classify(2, "mean"))
    assert made.labels == ("no", "yes") and set(made.classify("sentence 3")) == {"no", "yes"}
    fresh = build(made.spec, RUN.seed)
    assert not torch.equal(fresh.head.out.weight, parameters(made)["head.out.weight"])
    stored = records.read_records(out).recipe
    assert stored.model == made.spec and stored.head is None
    records.check_asked(out, stored, sorting(folder, lines, adapter=replace(LORA, whole=("head.**",))))
    with pytest.raises(ConfigError, match=r"adapter\.rank: 2 in this run, 3 asked for"):
        records.check_asked(out, stored, sorting(folder, lines, adapter=replace(LORA, rank=3)))


def test_a_new_head_that_would_never_be_trained_is_refused(folder, lines, tmp_path):
    with pytest.raises(
        ConfigError, match=r'adapter\.whole: head\.out\.weight is new.*whole = \["head\.\*\*"\]'
    ):
        train(sorting(folder, lines, adapter=LORA), tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.toml").exists()


def test_a_head_with_other_labels_is_new(folder, lines, tmp_path):
    out = train(sorting(folder, lines), tmp_path / "run")
    start = read_start(str(out))
    same, other = (build(start.found.model.plan) for _ in range(2))
    assert start.take(same, ("no", "yes")) == []
    assert start.take(other, ("bad", "good")) == ["head.out.weight", "head.out.bias"]


def test_the_digest_is_of_the_weights_and_not_of_their_file(folder, text, tmp_path):
    again = load(folder).save_pretrained(tmp_path / "again")
    one, other = read_start(str(folder)), read_start(str(again))
    assert one.digest == other.digest
    with torch.no_grad():
        other.found.model.input.token.weight[0, 0] += 1
    assert digest_of(other.found.model) != one.digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": None, "start": ""}, "model: missing; Recipe needs it, or a start"),
        ({"model": SHAPE, "head": spec.Classify(2)}, "head: stands in model already"),
        ({"model": SHAPE, "start": "", "adapter": LORA}, "adapter: is trained beside weights"),
        ({"adapter": LORA, "frozen": ("input.**",)}, "frozen: beside an adapter"),
        ({"adapter": replace(LORA, rank=0)}, "adapter.rank: 0 must be at least 1"),
        ({"adapter": replace(LORA, dropout=1.0)}, "adapter.dropout: 1.0 must be at least 0 and less than 1"),
    ],
)
def test_recipes_that_cannot_be_meant(change, said, text):
    from cutaway.spec.check import check_recipe

    with pytest.raises(ConfigError) as refused:
        check_recipe(replace(recipe("somewhere", text), **change))
    assert said in str(refused.value)


def test_a_recipe_without_a_model_is_read_back(text, tmp_path):
    from cutaway.spec.read import read_recipe
    from cutaway.spec.write import write_recipe

    plan = recipe("somewhere", text, adapter=LORA, head=spec.Classify(3))
    (tmp_path / "recipe.toml").write_text(write_recipe(plan))
    assert read_recipe(tmp_path / "recipe.toml") == plan
    (tmp_path / "recipe.toml").write_text(
        'name = "a"\nstart = "b"\nfrozen = ["input.**"]\n[data]\nkind = "Text"\nsource = ["c"]\n'
    )
    assert read_recipe(tmp_path / "recipe.toml") == spec.Recipe(
        "a", None, spec.Text(("c",)), start="b", frozen=("input.**",)
    )


@pytest.mark.parametrize("roles", [3, {"end": "a"}, {**dict.fromkeys(("end", "begin", "pad", "start"), 7)}])
def test_roles_of_tokens_that_nobody_wrote_are_refused(roles, folder, text, tmp_path):
    out = train(recipe(folder, text, run={"steps": 1}), tmp_path / "run")
    facts = json.loads((out / "facts.json").read_text())
    assert facts["roles"] == {
        "end": "<|end|>",
        "begin": None,
        "pad": None,
        "start": None,
        "unknown": None,
        "ends": [256],
    }
    (out / "facts.json").write_text(json.dumps(facts | {"roles": roles}))
    with pytest.raises(FileFormatError, match=r"facts\.json: roles do not name tokens"):
        load(out)
