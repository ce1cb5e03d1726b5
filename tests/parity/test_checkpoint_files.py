"""Folders as they are found: prefixes, old names, copies, buffers, shards, types, the hub's cache; and what
of them is refused, by name.
"""

import json
import shutil
import socket
import sys
from pathlib import Path

import pytest
import torch

import cutaway
from cutaway.errors import ConfigError, FileFormatError, InputMissingError
from cutaway.weights import folder as folders
from cutaway.weights import hub
from cutaway.weights.config import Table, read_config
from cutaway.weights.families import FAMILIES
from cutaway.weights.folder import Pretrained, assemble, read_folder
from cutaway.weights.safe import read_tensors, write_tensors
from tests.parity.checkpoints import CASES, SMALLEST, inputs, save

WEIGHTS, CONFIG = "model.safetensors", "config.json"
PREFIXES = {"gpt2": "transformer.", "llama": "model.", "bert": "bert.", "marian": "model.", "vit": "vit."}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Every case, saved once; a test takes a copy."""
    root = tmp_path_factory.mktemp("kept")
    return {name: save(one.build(torch.float32), root / name) for name, one in CASES.items()}


def rewritten(kept: dict[str, Path], name: str, folder: Path, change) -> Path:
    """A copy of a saved case whose tensors went through `change`."""
    shutil.copytree(kept[name], folder)
    write_tensors(folder / WEIGHTS, change(read_tensors(kept[name] / WEIGHTS)), {"format": "pt"})
    return folder


def reconfigured(
    kept: dict[str, Path], name: str, folder: Path, change: dict, drop: tuple[str, ...] = ()
) -> Path:
    """A copy of a saved case with other values in its config."""
    shutil.copytree(kept[name], folder)
    table = json.loads((folder / CONFIG).read_text())
    table = {key: value for key, value in (table | change).items() if key not in drop}
    (folder / CONFIG).write_text(json.dumps(table))
    return folder


def same_model(one: Pretrained, two: Pretrained) -> bool:
    left, right = dict(one.model.named_parameters()), dict(two.model.named_parameters())
    return one.plan == two.plan and all(torch.equal(left[key], right[key]) for key in left | right)


@pytest.mark.parametrize("name", PREFIXES)
def test_the_prefix_may_be_there_or_not(name, kept, tmp_path):
    prefix, whole = PREFIXES[name], read_folder(kept[name])

    def bare(tensors):
        return {key.removeprefix(prefix): value for key, value in tensors.items()}

    assert any(key.startswith(prefix) for key in read_tensors(kept[name] / WEIGHTS))
    assert same_model(read_folder(rewritten(kept, name, tmp_path / "bare", bare)), whole)

    def both(tensors):
        key = next(key for key in tensors if key.startswith(prefix))
        return tensors | {key.removeprefix(prefix): tensors[key]}

    with pytest.raises(FileFormatError, match="are one tensor of the model"):
        read_folder(rewritten(kept, name, tmp_path / "both", both))


def test_the_bare_encoder_may_have_the_prefix(kept, tmp_path):
    def prefixed(tensors):
        return {f"bert.{key}": value for key, value in tensors.items()}

    made = rewritten(kept, "bert bare", tmp_path / "new", prefixed)
    assert same_model(read_folder(made), read_folder(kept["bert bare"]))


def test_old_names_of_gains_and_shifts(kept, tmp_path):
    def old(tensors):
        ends = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
        return {key.replace(*ends[0]).replace(*ends[1]): value for key, value in tensors.items()}

    made = rewritten(kept, "bert", tmp_path / "new", old)
    assert any(key.endswith(".gamma") for key in read_tensors(made / WEIGHTS))
    assert same_model(read_folder(made), read_folder(kept["bert"]))


COPIES = {
    "gpt2": {"lm_head.weight": "transformer.wte.weight"},
    "llama": {"lm_head.weight": "model.embed_tokens.weight"},
    "bert": {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    "t5": dict.fromkeys(
        ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"), "shared.weight"
    ),
    "marian": dict.fromkeys(
        ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"),
        "model.shared.weight",
    ),
    "marian two vocabularies": {"lm_head.weight": "model.decoder.embed_tokens.weight"},
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_of_a_tied_matrix_must_be_one(name, kept, tmp_path):
    for number, (copy, original) in enumerate(COPIES[name].items()):

        def doubled(tensors, change=0.0, copy=copy, original=original):
            return tensors | {copy: tensors[original] + change}

        made = rewritten(kept, name, tmp_path / f"{number}", doubled)
        assert same_model(read_folder(made), read_folder(kept[name]))
        other = rewritten(kept, name, tmp_path / f"{number}-other", lambda t: doubled(t, 1e-6))
        with pytest.raises(FileFormatError, match=f"{copy} must be the same as {original}"):
            read_folder(other)


BUFFERS = {
    "gpt2": {"transformer.h.0.attn.bias": (1, 1, 16, 16), "transformer.h.0.attn.masked_bias": ()},
    "llama": {"model.layers.0.self_attn.rotary_emb.inv_freq": (2,), "model.rotary_emb.inv_freq": (2,)},
    "bert": {"bert.embeddings.position_ids": (1, 16)},
    "t5": {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": (8, 3)},
}


@pytest.mark.parametrize("name", BUFFERS)
def test_buffers_that_follow_from_the_config_are_ignored(name, kept, tmp_path):
    extra = {key: torch.zeros(shape) for key, shape in BUFFERS[name].items()}
    made = read_folder(rewritten(kept, name, tmp_path / "new", lambda tensors: tensors | extra))
    assert same_model(made, read_folder(kept[name])) and made.notices == ()


def test_marian_positions_must_be_the_sinusoids(kept, tmp_path):
    table = CASES["marian"].build().model.encoder.embed_positions.weight.detach().float()
    key = "model.encoder.embed_positions.weight"
    good = rewritten(kept, "marian", tmp_path / "good", lambda tensors: tensors | {key: table})
    assert same_model(read_folder(good), read_folder(kept["marian"]))
    wrong = rewritten(kept, "marian", tmp_path / "wrong", lambda tensors: tensors | {key: table + 1e-5})
    with pytest.raises(FileFormatError, match=f"{key} is not the table"):
        read_folder(wrong)


def test_weights_without_a_use_are_told(kept, tmp_path):
    pooler = {"bert.pooler.dense.weight": torch.zeros(12, 12), "bert.pooler.dense.bias": torch.zeros(12)}
    made = read_folder(rewritten(kept, "bert", tmp_path / "new", lambda tensors: tensors | pooler))
    assert len(made.notices) == 2 and "pooler.dense.bias is left out" in made.notices[0]


def test_all_that_is_wrong_is_in_one_error(kept, tmp_path):
    def spoiled(tensors):
        tensors = dict(tensors)
        del tensors["model.layers.0.mlp.up_proj.weight"]
        tensors["model.layers.0.mlp.up_projj.weight"] = torch.zeros(2)
        tensors["model.norm.weight"] = torch.zeros(11)
        tensors["model.layers.0.input_layernorm.weight"] = torch.zeros(12, dtype=torch.int8)
        return tensors

    with pytest.raises(FileFormatError) as refused:
        read_folder(rewritten(kept, "llama", tmp_path / "new", spoiled))
    told = str(refused.value)
    assert (
        "1 tensor missing: model.layers.0.mlp.up_proj.weight (did you mean model.layers.0.mlp.up_projj"
        in told
    )
    assert "1 tensor not of this model: model.layers.0.mlp.up_projj.weight (did you mean model.layers" in told
    assert "model.norm.weight has shape (11,), the config says (12,)" in told
    assert "model.layers.0.input_layernorm.weight is torch.int8" in told


def test_several_files_are_one_model(kept, tmp_path):
    model = CASES["llama"].build(torch.float32)
    model.save_pretrained(tmp_path, max_shard_size="2KB")
    assert not (tmp_path / WEIGHTS).exists() and len(list(tmp_path.glob("*.safetensors"))) > 1
    assert same_model(read_folder(tmp_path), read_folder(kept["llama"]))
    next(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(InputMissingError):
        read_folder(tmp_path)


def test_pickled_weights_are_refused_with_the_way_out(kept, tmp_path):
    shutil.copy(kept["llama"] / CONFIG, tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK\x03\x04 anything")
    with pytest.raises(FileFormatError, match="save_pretrained"):
        read_folder(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(InputMissingError, match=r"neither model\.safetensors nor"):
        read_folder(tmp_path)


def test_weights_are_mapped_and_not_copied(kept):
    file = kept["llama"] / WEIGHTS
    tensors = read_tensors(file)
    model = assemble(read_config(kept["llama"] / CONFIG), tensors, file).model
    places = {tensor.data_ptr() for tensor in tensors.values()}
    assert {value.data_ptr() for value in model.parameters()} == places


def test_the_type_is_a_choice(kept, tmp_path):
    assert {p.dtype for p in read_folder(kept["llama"]).model.parameters()} == {torch.float32}
    for asked, dtype in (("bf16", torch.bfloat16), (torch.float64, torch.float64)):
        assert {p.dtype for p in read_folder(kept["llama"], dtype=asked).model.parameters()} == {dtype}
    with pytest.raises(ConfigError, match="dtype"):
        read_folder(kept["llama"], dtype="int8")

    def mixed(tensors):
        return {key: value if "norm" in key else value.bfloat16() for key, value in tensors.items()}

    made = read_folder(rewritten(kept, "llama", tmp_path / "mixed", mixed))
    assert {p.dtype for p in made.model.parameters()} == {torch.float32}  # the widest: nothing is lost


def test_on_another_device_nothing_is_left_behind(kept):
    assert {p.device.type for p in read_folder(kept["gpt2"], device="meta").model.parameters()} == {"meta"}


def test_config_spellings_of_a_rotation(kept, tmp_path):
    old = {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 4}}
    made = reconfigured(kept, "llama", tmp_path / "old", old, drop=("rope_parameters",))
    new = {"rope_parameters": {"rope_theta": 500.0, "rope_type": "linear", "factor": 4.0}}
    other = reconfigured(kept, "llama", tmp_path / "new", new)
    rotary = read_folder(made).plan.stack.blocks[0].mixer.rotary
    assert rotary == read_folder(other).plan.stack.blocks[0].mixer.rotary
    assert rotary == cutaway.spec.Rotary(500.0, scaling=cutaway.spec.Interpolated(4.0))
    both = reconfigured(kept, "llama", tmp_path / "both", old)
    with pytest.raises(FileFormatError, match="rope_scaling"):
        read_folder(both)


REFUSED = {
    "rope_parameters": [
        {"rope_type": "yarn", "factor": 2.0},
        {"rope_type": "dynamic", "factor": 2.0},
        {"rope_type": "linear"},
        {"rope_type": "default", "mscale": 2.0},
        {"full_attention": {"rope_type": "default"}},
        {"rope_theta": 0},
        "default",
    ],
    "hidden_act": ["quick_gelu", "attacker/repo", 3],
    "architectures": [["LlamaForSequenceClassification"], ["attacker.Model"]],
    "model_type": ["lama", "attacker/repo", None, 3],
    "position_embedding_type": ["relative_key"],
    "quantization_config": [{"quant_method": "gptq"}],
    "pruned_heads": [{"0": [1]}],
    "sliding_window": [3],
    "rope_interleaved": [True],
    "num_key_value_heads": [2, 0, -1, 1.0, True, 10**9],
    "head_dim": [3, 0],
    "hidden_size": [10**9, -12, "12", None, 12.0],
    "num_hidden_layers": [10**6, 0, 2**70],
    "vocab_size": [10**12, 0],
    "rms_norm_eps": [-1.0, "1e-5", None],
    "tie_word_embeddings": ["yes", 1, None],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in REFUSED for value in REFUSED[key]])
def test_what_is_not_built_is_refused_by_name(key, value, kept, tmp_path):
    made = reconfigured(kept, "llama", tmp_path / "new", {key: value})
    with pytest.raises(FileFormatError) as refused:
        read_folder(made)
    named = {"rope_parameters": "rope_"}.get(key, key)
    assert named in str(refused.value) and CONFIG in str(refused.value)


OTHERS = [
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ("gpt2", {"hidden_size": 24}, "n_embd: 12, but hidden_size says 24"),
    ("gpt2", {"n_head": 5}, "n_head"),
    ("qwen2 windows", {"layer_types": ["full_attention", "chunked_attention"]}, "layer_types"),
    ("qwen2 windows", {"layer_types": ["full_attention"]}, "layer_types"),
    ("qwen2", {"layer_types": ["sliding_attention"]}, "layer_types"),
    ("bert", {"is_decoder": True}, "is_decoder"),
    ("bert", {"architectures": ["BertForTokenClassification"]}, "BertForTokenClassification"),
    ("bert classes", {"problem_type": "regression"}, "problem_type"),
    ("bert classes", {"id2label": {"0": "a", "2": "b"}}, "id2label"),
    ("t5", {"feed_forward_proj": "gated-quick_gelu"}, "feed_forward_proj"),
    ("t5", {"dense_act_fn": "silu"}, "dense_act_fn"),
    ("t5", {"relative_attention_num_buckets": 1}, "relative_attention_num_buckets"),
    ("marian", {"normalize_before": True}, "normalize_before"),
    ("marian", {"static_position_embeddings": False}, "static_position_embeddings"),
    ("marian", {"decoder_vocab_size": 99}, "decoder_vocab_size"),
    ("vit", {"image_size": [8, 12]}, "image_size"),
    ("vit", {"patch_size": 3}, "patch_size"),
]


@pytest.mark.parametrize(("name", "change", "told"), OTHERS)
def test_what_a_family_has_not_is_refused_by_name(name, change, told, kept, tmp_path):
    with pytest.raises(FileFormatError) as refused:
        read_folder(reconfigured(kept, name, tmp_path / "new", change))
    assert told in str(refused.value)


def test_unknown_keys_are_told_and_select_no_code(kept, tmp_path):
    change = {"auto_map": {"AutoModel": "evil.Model"}, "_attn_implementation": "attacker/repo", "wings": 2}
    made = read_folder(reconfigured(kept, "llama", tmp_path / "new", change))
    assert same_model(made, read_folder(kept["llama"]))
    assert [notice.split(": ")[1].split()[0] for notice in made.notices] == [
        "_attn_implementation",
        "auto_map",
        "wings",
    ]
    for name, folder in kept.items():  # what transformers writes is understood to the last key
        assert not [n for n in read_folder(folder).notices if CONFIG in n], name


def test_defaults_are_those_of_the_published_class():
    """An empty config is a whole model: of its published class, with the sizes transformers gives it."""
    for family in FAMILIES.values():
        theirs = next(one for one in CASES.values() if one.family == family.model_type).model.config_class()
        plan = family.read(Table({}), {}).plan
        stack = getattr(plan, "stack", None) or plan.encoder
        assert plan.width == theirs.hidden_size and stack.layers == theirs.num_hidden_layers
        mixer = stack.blocks[0].mixer
        assert mixer.heads == theirs.num_attention_heads
        assert (mixer.kv_heads or mixer.heads) == getattr(theirs, "num_key_value_heads", mixer.heads)
        full = family.read(Table(theirs.to_dict()), {}).plan
        assert full == plan, family.model_type


def test_a_hub_id_is_found_in_the_cache_and_no_socket_is_opened(kept, tmp_path, monkeypatch):
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    own, revision = tmp_path / "models--some--llama", "0123456789abcdef" * 2 + "01234567"
    blobs, snapshot = own / "blobs", own / "snapshots" / revision
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (own / "refs").mkdir()
    (own / "refs" / "main").write_text(revision)
    for number, file in enumerate(sorted(kept["llama"].iterdir())):
        shutil.copy(file, blobs / f"{number}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    assert same_model(read_folder("some/llama"), read_folder(kept["llama"]))
    with pytest.raises(InputMissingError, match="HF_HUB_OFFLINE forbids"):
        read_folder("other/llama")
    (own / "refs" / "main").write_text("../../elsewhere")
    with pytest.raises(FileFormatError, match="names no revision"):
        read_folder("some/llama")


def test_a_path_that_was_mistyped_asks_no_server(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "fetch", lambda name: pytest.fail(f"fetched {name}"))
    monkeypatch.setattr(hub, "offline", lambda: False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    for path in ("runs/dmo", "own/model", "gpt2", Path("org/name"), "../x", "a/b/c", ""):
        with pytest.raises(InputMissingError):
            read_folder(path)
        with pytest.raises(InputMissingError):
            cutaway.load(path)
    fetched = []
    monkeypatch.setattr(hub, "fetch", lambda name: fetched.append(name) or kept["llama"])
    assert read_folder("org/name").length and fetched == ["org/name"]


ODD = (
    "attacker/repo",
    -1,
    0,
    10**9,
    2**70,
    1.5,
    [],
    {},
    None,
    True,
    [["x"]],
    {"a": {"b": []}},
    "\u0000",
    1e308,
)


@pytest.mark.parametrize("name", SMALLEST)
def test_odd_values_of_every_key_are_typed_errors_or_change_nothing(name, kept, monkeypatch):
    """Each key of a real config in turn with each odd value: a FileFormatError, or a model that computes."""
    table, file = read_config(kept[name] / CONFIG), kept[name] / WEIGHTS
    tensors = read_tensors(file)
    loaded, refused, imported = 0, 0, set(sys.modules)
    for key in table.values:
        for value in ODD:
            try:
                found = assemble(Table({**table.values, key: value}, table.path), tensors, file)
            except FileFormatError:
                refused += 1
            else:
                loaded += 1
                assert sum(p.numel() for p in found.model.parameters()) <= sum(
                    t.numel() for t in tensors.values()
                )
    assert loaded and refused > 100 and set(sys.modules) == imported


def test_an_image_model_has_no_tokenizer_and_text_needs_one(kept):
    session = cutaway.load(kept["vit"])
    assert session.tokenizer is None and len(session.labels) == 5
    (images,) = inputs(CASES["vit"], torch.float32)
    assert session.model(images).shape == (2, 5)
    with pytest.raises(ConfigError, match="reads text"):
        session.embed("a picture")
    with pytest.raises(InputMissingError, match="vocabulary"):
        cutaway.load(kept["llama"])
    with pytest.raises(ConfigError, match="is no run"):
        cutaway.load(kept["vit"], step=3)


def test_a_folder_is_a_folder(tmp_path):
    with pytest.raises(InputMissingError, match=r"no config\.json"):
        read_folder(tmp_path)
    (tmp_path / CONFIG).write_text("{")
    with pytest.raises(FileFormatError, match="not valid JSON"):
        read_folder(tmp_path)
    with pytest.raises(InputMissingError, match="is a file"):
        read_folder(tmp_path / CONFIG)
    (tmp_path / CONFIG).write_text("[" * 100_000)
    with pytest.raises(FileFormatError, match="deep"):
        read_folder(tmp_path)
    assert folders.CONFIG == hub.CONFIG == CONFIG


# What well-known checkpoints have in their config.json, in short: none of it may be unknown.
KNOWN = {
    "gpt2": """n_ctx 1024 task_specific_params {"text-generation":{"max_length":50}}""",
    "llama": """is_llama_config true rope_interleaved false rope_scaling null pretraining_tp 1
        rope_theta 100000 transformers.js_config {"dtype":"q4"} torch_dtype "bfloat16" mlp_bias false""",
    "mistral": """rope_theta 10000.0 torch_dtype "bfloat16" transformers_version "4.34.0.dev0" """,
    "qwen2": """use_mrope false rope_theta 1000000.0 sliding_window 32768 max_window_layers 21""",
    "bert": """gradient_checkpointing false position_embedding_type "absolute" _name_or_path "x" """,
    "t5": """output_past true n_positions 512 task_specific_params {"summarization":{"num_beams":4}}""",
    "marian": """_num_labels 3 add_bias_logits false add_final_layer_norm false bad_words_ids [[0]]
        num_beams 6 classif_dropout 0.0 classifier_dropout 0.0 extra_pos_embeddings 0 max_length 512
        normalize_before false
        force_bos_token_to_be_generated false normalize_embedding false static_position_embeddings true
        save_step 13 num_hidden_layers 1""",
    "vit": """encoder_stride 16 qkv_bias true pooler_act "tanh" transformers_version "4.13.0.dev0" """,
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_well_known_configs_are_understood(name, kept, tmp_path):
    words = KNOWN[name].split()
    change = {key: json.loads(value) for key, value in zip(words[::2], words[1::2], strict=True)}
    made = read_folder(reconfigured(kept, name, tmp_path / "new", change, drop=("rope_parameters",)))
    assert made.notices == ()
    assert same_model(made, read_folder(kept[name])) or name in ("llama", "qwen2")  # another theta


def test_an_image_classifier_may_bring_a_pooler(kept, tmp_path):
    pooler = {"vit.pooler.dense.weight": torch.zeros(12, 12), "vit.pooler.dense.bias": torch.zeros(12)}
    made = read_folder(rewritten(kept, "vit", tmp_path / "new", lambda tensors: tensors | pooler))
    assert same_model(made, read_folder(kept["vit"])) and len(made.notices) == 2


def test_one_score_sorts_into_no_classes(kept, tmp_path):
    def one(tensors):
        return tensors | {"classifier.weight": torch.ones(1, 12), "classifier.bias": torch.ones(1)}

    made = rewritten(kept, "bert classes", tmp_path / "new", one)
    table = json.loads((made / CONFIG).read_text()) | {"id2label": {"0": "LABEL_0"}}
    (made / CONFIG).write_text(json.dumps(table))
    found = read_folder(made)
    assert found.labels == () and found.plan.head.classes == 1
