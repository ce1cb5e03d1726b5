"""What we save, transformers loads as the same function; what was loaded and saved is equal to the byte."""

import json
import math
import os

import pytest
import torch
import torch.nn.functional as F
import transformers as hf

import cutaway
from cutaway import spec
from cutaway.data.masking import mask_id, with_mask
from cutaway.data.tokenizer import byte_tokenizer, character_tokenizer, subword_tokenizer
from cutaway.errors import ConfigError, OutputExistsError, SaveError
from cutaway.models import build
from cutaway.session import Session
from cutaway.weights import export
from cutaway.weights.export import save_pretrained
from cutaway.weights.folder import read_folder
from cutaway.weights.published import publish
from cutaway.weights.safe import read_tensors
from tests.parity.checkpoints import CASES, ask_theirs, inputs, redraw, save
from tests.parity.test_checkpoints import RELATIVE, WORST_KL, apart, kl, losses
from tests.unit.weights.saved import save_checkpoint, save_run

TEXT = "A train of thought, and 日本, naïve é 🙂, leaves\nat noon.\t" * 8
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def loaded_and_saved(name: str, folder):
    of = CASES[name]
    theirs = of.build()
    first = read_folder(save(theirs, folder / "theirs"))
    save_pretrained(
        first.model, None, folder / "ours", length=first.length, labels=first.labels, origin=first.path
    )
    return of, theirs, folder / "theirs", folder / "ours"


@pytest.mark.parametrize("name", CASES)
def test_transformers_loads_what_we_save(name, tmp_path):
    of, theirs, _, ours = loaded_and_saved(name, tmp_path)
    again, told = of.model.from_pretrained(ours, attn_implementation="eager", output_loading_info=True)
    unused = (
        {"cls.predictions.bias"} if name == "bert own output" else set()
    )  # theirs has it and never adds it
    assert set(told["missing_keys"]) <= unused and not told["unexpected_keys"] and not told["mismatched_keys"]
    assert next(again.parameters()).dtype == torch.float64
    if hasattr(again, "model") and hasattr(again.model, "rotary_emb"):
        again.model.rotary_emb = theirs.model.rotary_emb  # the same settings, see below; angles of float64
        assert again.config.rope_parameters == theirs.config.rope_parameters
    if of.family == "marian":  # theirs makes its sines and cosines anew, in float32
        for side in ("encoder", "decoder"):
            made, exact = (getattr(one.model, side).embed_positions.weight for one in (again, theirs))
            assert (made - exact).abs().max() < 1e-7
            made.data = exact.data
    again = again.eval()
    read = inputs(of)
    with torch.no_grad():
        got, want = ask_theirs(of, again, read), ask_theirs(of, theirs, read)
        assert apart(got.logits, want.logits) <= RELATIVE["float64"]
        assert kl(got.logits, want.logits) <= WORST_KL
        model = read_folder(ours).model
        if "bare" not in of.shows:
            mine, loss = losses(of, model, again, read)
            assert math.isclose(mine, loss, rel_tol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_load_save_load_is_equal_to_the_byte(name, tmp_path):
    _, _, theirs, ours = loaded_and_saved(name, tmp_path)
    before, after = read_tensors(theirs / WEIGHTS), read_tensors(ours / WEIGHTS)
    left = {"cls.predictions.bias"} if name == "bert own output" else set()
    left |= {"model.shared.weight"} if name == "marian own output" else set()
    assert before.keys() - left == after.keys()
    for key, tensor in after.items():
        assert tensor.dtype == before[key].dtype and torch.equal(tensor, before[key]), key
    second = read_folder(ours)
    save_pretrained(second.model, None, tmp_path / "again", length=second.length, labels=second.labels)
    assert (ours / WEIGHTS).read_bytes() == (tmp_path / "again" / WEIGHTS).read_bytes()
    assert read_folder(tmp_path / "again").plan == second.plan and second.notices == ()


def session_of(plan: spec.Model, tokenizer) -> Session:
    model = build(plan).float()
    redraw(model, seed=5)
    return Session(model.eval(), tokenizer, length=16)


TOKENIZERS = {
    "bytes": byte_tokenizer,
    "characters": lambda: character_tokenizer(TEXT),
    "bpe": lambda: subword_tokenizer([TEXT], 300),
}


@pytest.mark.parametrize("shape", ["small", "gpt2"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_our_own_models_open_in_transformers(shape, kind, tmp_path):
    tokenizer = TOKENIZERS[kind]()
    sizes = {"small": {"kv_heads": 2}, "gpt2": {"length": 16}}[shape]
    plan = spec.PRESETS[shape](layers=2, width=16, heads=4, vocab=tokenizer.vocab, **sizes)
    session = session_of(plan, tokenizer)
    folder = session.save_pretrained(tmp_path / "out")
    theirs = hf.AutoModelForCausalLM.from_pretrained(folder).eval()
    assert type(theirs).__name__ == {"small": "Qwen3ForCausalLM", "gpt2": "GPT2LMHeadModel"}[shape]
    other = hf.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(TEXT).tolist()
    assert other(TEXT)["input_ids"] == ids and other.decode(ids) == TEXT
    assert other.eos_token_id == tokenizer.end and theirs.generation_config.eos_token_id == tokenizer.end
    tokens = torch.tensor(ids[: 16 * (len(ids) // 16)]).unflatten(0, (-1, 16))
    with torch.no_grad():
        want = theirs.double()(tokens).logits
        got = session.model.double()(tokens)
    assert kl(got, want) <= WORST_KL and (want.amax(-1) - want.amin(-1)).min() >= 1
    flat = F.cross_entropy(want[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    mine = F.cross_entropy(got[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert math.isclose(flat, mine, rel_tol=1e-7)
    again = cutaway.load(folder)
    assert again.tokenizer.encode(TEXT).tolist() == ids and again.tokenizer.end == tokenizer.end
    assert again.generate("A train", 8, seed=1) == session_of(plan, tokenizer).generate("A train", 8, seed=1)
    assert again.length == 16


@torch.no_grad()
def test_our_own_masked_model_opens_in_transformers(tmp_path):
    tokenizer = with_mask(subword_tokenizer([TEXT], 300))
    session = session_of(spec.bert(2, 16, 4, tokenizer.vocab, length=16), tokenizer)
    folder = session.save_pretrained(tmp_path / "out")
    theirs = hf.AutoModelForMaskedLM.from_pretrained(folder).eval()
    other = hf.AutoTokenizer.from_pretrained(folder)
    assert other.mask_token_id == mask_id(tokenizer) and other.eos_token_id == tokenizer.end
    tokens = torch.randint(0, tokenizer.vocab, (2, 9), generator=torch.Generator().manual_seed(0))
    assert kl(session.model.double()(tokens), theirs.double()(input_ids=tokens).logits) <= WORST_KL
    again = cutaway.load(folder)
    assert again.fill("A [MASK] of") == session_of(session.spec, tokenizer).fill("A [MASK] of")


PUBLISHED = {
    "gpt2": "gpt2", "llama3": "llama", "small": "qwen3", "bert": "bert", "t5": "t5", "vit": "vit"
}  # fmt: skip
UNPUBLISHED = {
    "quick": "stack.blocks[0].ffn: MLP",
    "quick_encoder": "stack.blocks[0].ffn: MLP",
    "quick_pair": "encoder.blocks[0].mixer.rotary: Rotary",
    "vaswani": "source.position.layout: 'interleaved'",
    "lstm": "Recurrence: no published family is of this kind",
    "bahdanau": "Seq2Seq: no published family is of this kind",
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_every_preset_of_a_published_family_is_published(preset):
    found = publish(spec.PRESETS[preset](), 64)
    assert found.family.model_type == PUBLISHED[preset]


@pytest.mark.parametrize("preset", UNPUBLISHED)
def test_what_has_no_published_architecture_is_refused_by_name(preset, tmp_path):
    plan = spec.PRESETS[preset]()
    with pytest.raises(ConfigError) as refused:
        save_pretrained(build(plan, device="meta"), None, tmp_path / "out")
    assert UNPUBLISHED[preset] in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_every_preset_is_published_or_refused():
    assert set(PUBLISHED) | set(UNPUBLISHED) >= set(spec.PRESETS) - {
        "gru", "sutskever", "cho", "luong", "gehring"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (dict(input=spec.Tokens(13, scale=2.0)), "input.scale: 2.0"),
        (dict(input=spec.Tokens(13, spec.Learned(8))), "input.position: Learned"),
        (dict(head=spec.NextToken(cap=3.0)), "head.cap: 3.0"),
        (dict(head=spec.NextToken(bias=True)), "head.bias: True"),
    ],
)
def test_a_small_difference_is_named(change, named):
    plan = spec.small(2, 16, 2, vocab=13)
    assert publish(plan, 8).family.model_type == "qwen3"
    fields = {"width": plan.width, "input": plan.input, "stack": plan.stack, "head": plan.head}
    with pytest.raises(ConfigError) as refused:
        publish(spec.Single(**fields | change), 8)
    assert named in str(refused.value)


def test_what_matters_in_training_alone_is_no_obstacle():
    assert publish(spec.small(2, 16, 2, vocab=13, dropout=0.3), 8).family.model_type == "qwen3"


def test_nothing_half_written_stays_behind(tmp_path, monkeypatch):
    session = session_of(spec.small(1, 16, 2, vocab=257), byte_tokenizer())

    def full(*arguments: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(export, "put_tensors", full)
    monkeypatch.setattr("cutaway.store.disk.time.sleep", lambda seconds: None)
    with pytest.raises(SaveError, match="No space left"):
        session.save_pretrained(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    session.save_pretrained(tmp_path / "out")
    before = (tmp_path / "out" / WEIGHTS).read_bytes()
    with pytest.raises(OutputExistsError):
        session.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == before


def test_the_card_tells_of_the_run(tmp_path):
    run = save_run(tmp_path / "run", steps=())
    save_checkpoint(run, 7, dict(build(spec.small(2, 16, 2, vocab=257), seed=3).named_parameters()))
    (run / "metrics.jsonl").write_text('{"step": 5, "loss": 2.5}\n{"step": 7, "validation": 1.25}\n')
    session = cutaway.load(run)
    card = (session.save_pretrained(tmp_path / "out") / "README.md").read_text()
    assert "| validation | 1.25 |" in card and "cutaway train recipe.toml" in card
    assert (tmp_path / "out" / "recipe.toml").read_bytes() == (run / "recipe.toml").read_bytes()
    assert json.loads((tmp_path / "out" / CONFIG).read_text())["max_position_embeddings"] == 8
    assert cutaway.load(tmp_path / "out").loss(TEXT).nats == session.loss(TEXT).nats
    one = cutaway.load(run / "checkpoints" / "step-000007").save_pretrained(tmp_path / "one")
    assert (one / "README.md").read_text() == card
    bare = save_pretrained(session.model, session.tokenizer, tmp_path / "bare") / "README.md"
    assert "Training" not in bare.read_text() and not (tmp_path / "bare" / "recipe.toml").exists()


def test_labels_travel(tmp_path):
    of = CASES["bert classes"]
    model = of.build()
    model.config.id2label = {0: "no", 1: "maybe", 2: "yes"}
    model.config.label2id = {"no": 0, "maybe": 1, "yes": 2}
    found = read_folder(save(model, tmp_path / "in"))
    assert found.labels == ("no", "maybe", "yes")
    save_pretrained(found.model, None, tmp_path / "out", labels=found.labels)
    assert read_folder(tmp_path / "out").labels == found.labels
