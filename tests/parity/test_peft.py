"""Low-rank adapters in peft's layout: what we write, peft computes alike, and the other way round."""

import json
import warnings
from pathlib import Path

import pytest
import torch

from cutaway import load, spec
from cutaway.data.tokenizer import byte_tokenizer
from cutaway.errors import ConfigError, FileFormatError, InputMissingError
from cutaway.models import build
from cutaway.models.adapt import adapt, adapters, trained
from cutaway.session import Session
from cutaway.weights.folder import read_folder
from cutaway.weights.peft import CONFIG, WEIGHTS, read_adapter, save_adapter
from cutaway.weights.safe import read_tensors, write_tensors
from tests.parity.checkpoints import CASES, Case, ask_theirs, inputs, save

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install -e '.[test]'")

pytestmark = pytest.mark.filterwarnings("ignore")  # of peft and of what it imports
NAMES = ["gpt2", "llama", "qwen3", "bert", "bert classes", "t5", "marian"]
# what peft calls the matrices: those of attention, and those of the feed-forward
THEIRS = {
    "gpt2": (["c_attn", "attn.c_proj"], ["c_fc", "mlp.c_proj"]),
    "llama": (["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj", "down_proj"]),
    "bert": (["query", "key", "value", "attention.output.dense"], ["intermediate.dense"]),
    "t5": (["q", "k", "v", "o"], ["wi", "wo", "wi_0", "wi_1"]),
    "marian": (["q_proj", "k_proj", "v_proj", "out_proj"], ["fc1", "fc2"]),
}
EXACT = 1e-10  # relative, in float64


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def fill(model: torch.nn.Module) -> None:
    """Every adapter drawn anew: a fresh B is zero, and a fresh adapter hides mistakes."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in adapters(model).values():
            for matrix in (layer.lora_a, layer.lora_b):
                matrix.copy_(torch.randn(matrix.shape, generator=generator, dtype=torch.float64) * 0.3)


def ours(folder: Path, read) -> torch.Tensor:
    model = folder if isinstance(folder, torch.nn.Module) else read_folder(folder).model
    with torch.no_grad():
        return model(*read)


def theirs(of: Case, model, read) -> torch.Tensor:
    with torch.no_grad():
        return ask_theirs(of, model, read).logits


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("targets", ["attention", "everything", "some"])
def test_peft_reads_what_we_write(name, targets, tmp_path):
    of = CASES[name]
    base, read = of.build(), inputs(CASES[name])
    model = read_folder(save(base, tmp_path / "base")).model
    plan = {
        "attention": (),
        "everything": ("**.attn.*", "**.ffn.*"),
        "some": ("**blocks.0.attn.query", "**blocks.0.attn.value", "**blocks.0.ffn.up"),
    }[targets]
    plan = tuple(pattern.replace("**blocks", "**.blocks") for pattern in plan)
    whole = ("head.out.*",) if name == "bert classes" else ()
    before = ours(model, read)
    adapt(model, spec.LoRA(rank=3, alpha=5.0, targets=plan, whole=whole))
    fill(model)
    if whole:
        with torch.no_grad():
            model.head.out.weight.add_(0.5)
    folder = save_adapter(model, tmp_path / "adapter", base=str(tmp_path / "base"))
    wrapped = peft.PeftModel.from_pretrained(base, folder).eval()
    said = ours(model, read)
    assert apart(said, theirs(of, wrapped.base_model.model, read)) < EXACT
    assert apart(said, before) > 1e-3, "the adapter must count"
    again = read_folder(tmp_path / "base").model
    read_adapter(again, folder)
    assert apart(ours(again, read), said) < EXACT
    if name != "gpt2":  # there an adapter of theirs is one for each of query, key, value
        assert adapters(again).keys() == adapters(model).keys()
        assert trained(again).keys() == trained(model).keys()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stable", [False, True])
def test_we_read_what_peft_writes(name, stable, tmp_path):
    of = CASES[name]
    base, read = of.build(), inputs(CASES[name])
    save(base, tmp_path / "base")
    attention, ffn = THEIRS[{"qwen3": "llama"}.get(of.family, of.family)]
    known = [module for module, _ in base.named_modules()]
    wanted = [end for end in attention + ffn if any(module.endswith(f".{end}") for module in known)]
    config = peft.LoraConfig(
        r=2,
        lora_alpha=3,
        target_modules=wanted,
        use_rslora=stable,
        rank_pattern={wanted[0]: 4},
        alpha_pattern={wanted[-1]: 7},
        modules_to_save=["classifier"] if name == "bert classes" else None,
    )
    wrapped = peft.get_peft_model(base, config).double().eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for label, parameter in wrapped.named_parameters():
            if "lora_" in label or "modules_to_save" in label:
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
    wrapped.save_pretrained(tmp_path / "adapter")
    model = read_folder(tmp_path / "base").model
    before = ours(model, read)
    read_adapter(model, tmp_path / "adapter")
    said = ours(model, read)
    assert apart(said, theirs(of, wrapped.base_model.model, read)) < EXACT
    assert apart(said, before) > 1e-3
    assert all("lora" in label or label.startswith("head.out") for label in trained(model))


@pytest.fixture
def made(tmp_path):
    """A base, and an adapter beside it."""
    session = Session(
        build(spec.small(layers=2, width=16, heads=2, vocab=257), 5).eval(), byte_tokenizer(), 32
    )
    base = session.save_pretrained(tmp_path / "base")
    adapt(session.model, spec.LoRA(rank=2))
    fill(session.model)
    return base, session.save_adapter(tmp_path / "adapter", base="base"), session


def test_load_takes_an_adapter_and_merging_is_peft_s(made, tmp_path):
    import transformers

    base, folder, session = made
    read = torch.arange(12)[None]
    adapted = load(base, adapter=folder)
    assert torch.equal(adapted.model(read), session.model(read))
    merged = adapted.save_pretrained(tmp_path / "merged")
    plain = transformers.AutoModelForCausalLM.from_pretrained(merged).eval()
    wrapped = peft.PeftModel.from_pretrained(
        transformers.AutoModelForCausalLM.from_pretrained(base).eval(), folder
    )
    with torch.no_grad():
        said = plain(read).logits
        assert apart(adapted.model(read), said) < 1e-5
        assert apart(wrapped.merge_and_unload()(read).logits, said) < 1e-5


def rewritten(folder: Path, **changed) -> None:
    table = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(table | changed))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type: is not LORA"),
        ({"use_dora": True}, "use_dora: True is not built"),
        ({"bias": "all"}, "bias: 'all' is not built"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: 'pissa' is not built"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"something_new": 3}, "something_new: 3 is not built"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "is no plain name"),
        ({"lora_alpha": "8"}, "lora_alpha"),
        ({"lora_dropout": 1.0}, "lora_dropout: 1.0 must be less than 1"),
        ({"r": 8}, "r: 8, but layers.0"),
        (
            {"rank_pattern": {"q_proj": 7}},
            "r: 7, but layers.0.self_attn.q_proj has an adapter of rank 2",
        ),
        ({"rank_pattern": {"q_proj": "7"}}, "rank_pattern: must be a table of numbers"),
        ({"target_modules": ["k_proj"]}, "is not among them, but has an adapter"),
        ({"target_modules": [3]}, "target_modules: must be a list"),
        ({"modules_to_save": ["norm"]}, "modules_to_save: the weights hold nothing of 'norm'"),
    ],
)
def test_what_an_adapter_does_that_is_not_built_is_refused(changed, said, made):
    base, folder, _ = made
    rewritten(folder, **changed)
    with pytest.raises(FileFormatError) as refused:
        load(base, adapter=folder)
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"target_modules": ".*_proj"},
        {"target_modules": None},
        {"layers_to_transform": []},
        {"rank_pattern": {"self_attn.*": 3}},  # an expression: the tensors say the rank
        {"rank_pattern": {"^q_proj": 3}, "alpha_pattern": {"^q_proj": 60}},  # no module is called so in full
        {"modules_to_save": ["classifier", "score"]},  # peft names both for whatever sorts into classes
    ],
)
def test_the_same_asked_in_other_words(changed, made):
    base, folder, session = made
    rewritten(folder, **changed)
    read = torch.arange(12)[None]
    assert torch.equal(load(base, adapter=folder).model(read), session.model(read))


@pytest.mark.parametrize("whole", [["classifier"], ["classifier", "pooler"]])
def test_a_sequence_classifier_of_peft_s_is_read(whole, tmp_path):
    of, read = CASES["bert classes"], inputs(CASES["bert classes"])
    base = of.build()
    save(base, tmp_path / "base")
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"], modules_to_save=whole)
    wrapped = peft.get_peft_model(base, config).double().eval()
    with torch.no_grad():
        for label, parameter in wrapped.named_parameters():
            if "lora_" in label or "modules_to_save" in label:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    wrapped.save_pretrained(tmp_path / "adapter")
    assert "score" in json.loads((tmp_path / "adapter" / CONFIG).read_text())["modules_to_save"]
    model = read_folder(tmp_path / "base").model
    read_adapter(model, tmp_path / "adapter")
    assert apart(ours(model, read), theirs(of, wrapped.base_model.model, read)) < EXACT


def test_an_adapter_alone_is_no_model(made):
    with pytest.raises(InputMissingError, match="holds an adapter, no model; load what it belongs to"):
        load(made[1])


@pytest.mark.parametrize("damage", ["shape", "half", "name", "type", "embedding", "none"])
def test_tensors_that_do_not_fit_are_refused(damage, made):
    base, folder, _ = made
    tensors = {name: value.clone() for name, value in read_tensors(folder / WEIGHTS).items()}
    first = next(name for name in tensors if name.endswith("q_proj.lora_A.weight"))
    said = {"shape": "do not fit", "half": "without the other", "none": "holds no adapter"}
    match damage:
        case "shape":
            tensors[first] = tensors[first][:, :-1].contiguous()
        case "half":
            del tensors[first]
        case "name":
            tensors[first.replace("q_proj", "qq_proj")] = tensors.pop(first)
        case "type":
            tensors[first] = tensors[first].to(torch.int32)
        case "embedding":
            tensors["base_model.model.model.embed_tokens.lora_A.weight"] = torch.zeros(2, 257)
        case "none":
            tensors = {}
    (folder / WEIGHTS).unlink()
    write_tensors(folder / WEIGHTS, tensors)
    with pytest.raises(FileFormatError, match=said.get(damage, "of no module of this model|torch.int32")):
        load(base, adapter=folder)


def test_what_is_missing_or_there_already(made, tmp_path):
    base, folder, session = made
    with pytest.raises(ConfigError, match="has adapters already"):
        read_adapter(session.model, folder)
    with pytest.raises(ConfigError, match="this model has none"):
        load(base).save_adapter(tmp_path / "nothing")
    with pytest.raises(InputMissingError, match=r"has no adapter_config\.json"):
        load(base, adapter=tmp_path)
    images = build(spec.vit(1, 16, 2, image=8, size=4, classes=3))
    adapt(images, spec.LoRA(whole=("head.**",)))
    with pytest.raises(ConfigError, match="vit has other names in memory than in files"):
        save_adapter(images, tmp_path / "images")
    half = build(spec.small(layers=1, width=16, heads=2, vocab=257))
    adapt(half, spec.LoRA(whole=("input.token.weight",)))
    with pytest.raises(ConfigError, match=r"input\.token\.weight is tied to the head"):
        save_adapter(half, tmp_path / "tied")
