"""GGUF models as transformers reads them: every tensor bit by bit, every key of the config.

The oracle is `load_gguf_checkpoint`, which `from_pretrained(gguf_file=...)` calls; that itself first asks for
another package (accelerate).
"""

import sys
from pathlib import Path

import gguf as library
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kinds

from cutaway.errors import FileFormatError, MissingExtraError
from cutaway.weights.gguf import hugging_face, read_gguf, read_tensor
from cutaway.weights.gguf.kinds import KINDS
from cutaway.weights.gguf.stretch import llama3_factors

D, F, H, V, N, L = 64, 96, 4, 11, 2, 1024  # transformers assumes 1,024 positions of every GPT-2
QUANTISED = [Kinds[name] for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")]


def test_the_table_of_kinds_is_the_library_s():
    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in library.GGML_QUANT_SIZES.items()}
    assert {n: (kind.name, kind.block, kind.size) for n, kind in KINDS.items()} == theirs


class Writer:
    """A small random model of an architecture, written by the library."""

    def __init__(self, path: Path, architecture: str, quantised: Kinds, width: int = D):
        self.file = library.GGUFWriter(path, architecture)
        self.draw = np.random.default_rng(len(architecture))
        self.quantised, self.prefix, self.width = quantised, architecture, width

    def key(self, name: str, value: int | float) -> None:
        add = self.file.add_float32 if isinstance(value, float) else self.file.add_uint32
        add(f"{self.prefix}.{name}", value)

    def add(self, name: str, *shape: int) -> None:
        values = self.draw.normal(size=shape).astype(np.float32)
        if len(shape) > 1:
            self.file.add_tensor(name, library.quantize(values, self.quantised), raw_dtype=self.quantised)
        else:
            self.file.add_tensor(name, values)

    def close(self) -> None:
        self.file.add_token_list([f"t{n}" for n in range(V)])
        self.file.add_bos_token_id(1)
        self.file.add_eos_token_id(2)
        self.file.write_header_to_file()
        self.file.write_kv_data_to_file()
        self.file.write_tensors_to_file()
        self.file.close()


def gated(path: Path, architecture: str, kind: Kinds = Kinds.F32, heads: int = 2, tied: bool = True) -> Path:
    """A Llama, Qwen2 or Qwen3; with `heads` key/value heads."""
    made = Writer(path, architecture, kind)
    for name, value in {
        "block_count": N,
        "context_length": 128,
        "embedding_length": D,
        "feed_forward_length": F,
        "attention.head_count": H,
        "attention.head_count_kv": heads,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 50_000.0,
        "vocab_size": V,
    }.items():
        made.key(name, value)
    K = 32 if architecture == "qwen3" else D // H
    if architecture == "qwen3":
        made.key("attention.key_length", K)
        made.key("attention.value_length", K)
    made.add("token_embd.weight", V, D)
    made.add("output_norm.weight", D)
    if not tied:
        made.add("output.weight", V, D)
    for n in range(N):
        for norm in ("attn_norm", "ffn_norm"):
            made.add(f"blk.{n}.{norm}.weight", D)
        for name, rows, columns in (
            ("attn_q", H * K, D),
            ("attn_k", heads * K, D),
            ("attn_v", heads * K, D),
            ("attn_output", D, H * K),
            ("ffn_gate", F, D),
            ("ffn_up", F, D),
            ("ffn_down", D, F),
        ):
            made.add(f"blk.{n}.{name}.weight", rows, columns)
            if architecture == "qwen2" and name in ("attn_q", "attn_k", "attn_v"):
                made.add(f"blk.{n}.{name}.bias", rows)
        if architecture == "qwen3":
            made.add(f"blk.{n}.attn_q_norm.weight", K)
            made.add(f"blk.{n}.attn_k_norm.weight", K)
    made.close()
    return path


def gpt2(path: Path, kind: Kinds = Kinds.F32) -> Path:
    made = Writer(path, "gpt2", kind)
    for name, value in {
        "block_count": N,
        "context_length": L,
        "embedding_length": D,
        "feed_forward_length": 4 * D,
        "attention.head_count": H,
        "attention.layer_norm_epsilon": 1e-5,
    }.items():
        made.key(name, value)
    made.add("token_embd.weight", V, D)
    made.add("position_embd.weight", L, D)
    for end in ("weight", "bias"):
        made.add(f"output_norm.{end}", D)
        for n in range(N):
            for norm in ("attn_norm", "ffn_norm"):
                made.add(f"blk.{n}.{norm}.{end}", D)
    for n in range(N):
        for name, rows, columns in (
            ("attn_qkv", 3 * D, D),
            ("attn_output", D, D),
            ("ffn_up", 4 * D, D),
            ("ffn_down", D, 4 * D),
        ):
            made.add(f"blk.{n}.{name}.weight", rows, columns)
            made.add(f"blk.{n}.{name}.bias", rows)
    made.close()
    return path


MODELS = {
    "llama": lambda path, kind: gated(path, "llama", kind),
    "llama, not tied, every head its own": lambda path, kind: gated(path, "llama", kind, heads=H, tied=False),
    "qwen2": lambda path, kind: gated(path, "qwen2", kind),
    "qwen3": lambda path, kind: gated(path, "qwen3", kind, heads=1),
    "gpt2": gpt2,
}


def oracle(path: Path):
    """transformers' config of a file, as a table, and its tensors."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    found = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)
    return config.to_dict(), found["tensors"]


def assert_same_config(ours: dict, theirs: dict) -> None:
    """Every key of ours but those that transformers leaves out of what it reads."""
    rope = theirs.get("rope_parameters") or {}
    theirs = theirs | {"rope_theta": rope.get("rope_theta"), "architectures": ours["architectures"]}
    for key, value in ours.items():
        if key == "rope_scaling":
            assert value is None and rope["rope_type"] == "default"
        elif key in ("n_inner", "head_dim") and theirs.get(key) is None:  # its default, said
            assert value == (4 * D if key == "n_inner" else D // H)
        else:
            assert theirs[key] == value, key


def assert_same_tensors(ours: dict, theirs: dict) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("kind", QUANTISED, ids=lambda kind: kind.name)
def test_every_kind_of_numbers_is_read_as_transformers_reads_it(tmp_path, kind):
    path = gated(tmp_path / "x.gguf", "llama", kind)
    config, tensors = hugging_face(read_gguf(path))
    theirs, expected = oracle(path)
    assert_same_config(config, theirs)
    assert_same_tensors(tensors(), expected)


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_is_read_as_transformers_reads_it(tmp_path, name):
    path = MODELS[name](tmp_path / "x.gguf", Kinds.Q8_0)
    config, tensors = hugging_face(read_gguf(path))
    theirs, expected = oracle(path)
    if name == "qwen3":  # transformers does not read how wide its heads are
        theirs["head_dim"] = 32
    found = tensors()
    assert_same_config(config, theirs)
    assert_same_tensors(found, expected)
    for one in found:  # the control: any tensor that is another is seen
        with pytest.raises(AssertionError):
            assert_same_tensors(found | {one: found[one] + 1e-3}, expected)


BLOCKS = [
    kind for kind in Kinds if kind not in QUANTISED and kind.name not in ("F64", "I8", "I16", "I32", "I64")
]
UNREAD = ("Q8_1", "Q8_K", "Q1_0")


def of_blocks(path: Path, kind: Kinds) -> Path:
    """A file of one tensor of random blocks."""
    size = library.GGML_QUANT_SIZES[kind][1]
    raw = np.random.default_rng(int(kind)).integers(0, 256, (3, 2 * size), np.uint8)
    writer = library.GGUFWriter(path, "llama")
    writer.add_tensor("x", raw, raw_shape=raw.shape, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.name)
def test_blocks_of_every_kind_are_those_the_library_reads(tmp_path, kind):
    path = of_blocks(tmp_path / "x.gguf", kind)
    found = read_gguf(path)
    assert found.tensors["x"].shape == (3, 2 * library.GGML_QUANT_SIZES[kind][0])
    if kind.name in UNREAD:
        with pytest.raises(FileFormatError, match=f"kept as {kind.name}, which the gguf library cannot"):
            read_tensor(found, "x")
        return
    (theirs,) = library.GGUFReader(path).tensors
    with np.errstate(all="ignore"):
        expected = library.dequantize(theirs.data, kind)
    assert np.array_equal(read_tensor(found, "x").numpy(), expected, equal_nan=True)


def q4_k(block: bytes) -> list[float]:
    """256 numbers of a Q4_K block by ggml's definition, one by one: scale d q - least dmin."""
    d, low = (float(x) for x in np.frombuffer(block[:4], "<f2"))
    packed, quants = block[4:16], block[16:]
    found = []
    for part in range(8):
        if part < 4:
            scale, least = packed[part] & 63, packed[part + 4] & 63
        else:
            scale = packed[part + 4] & 15 | packed[part - 4] >> 6 << 4
            least = packed[part + 4] >> 4 | packed[part] >> 6 << 4
        for byte in quants[part // 2 * 32 :][:32]:
            found.append(d * scale * (byte >> 4 if part % 2 else byte & 15) - low * least)
    return found


def test_a_block_worked_out_by_hand(tmp_path):
    path = of_blocks(tmp_path / "x.gguf", Kinds.Q4_K)
    found = read_gguf(path)
    info = found.tensors["x"]
    raw = bytearray(path.read_bytes())
    for at in range(info.begin, info.end, 144):  # scales that are numbers
        raw[at : at + 4] = np.array([0.11, 0.07], "<f2").tobytes()
    path.write_bytes(raw)
    blocks = [bytes(raw[at : at + 144]) for at in range(info.begin, info.end, 144)]
    expected = np.array([q4_k(block) for block in blocks], np.float32).reshape(3, 512)
    assert np.allclose(read_tensor(found, "x").numpy(), expected, rtol=1e-6, atol=1e-5)
    assert not np.allclose(expected, np.roll(expected, 32, axis=1), atol=1e-2)


def test_llama_3_s_stretched_rotation_is_told_by_its_three_numbers(tmp_path):
    def with_factors(path: Path, factors: np.ndarray) -> Path:
        made = gated(tmp_path / "plain.gguf", "llama")
        plain = library.GGUFReader(made)
        writer = library.GGUFWriter(path, "llama")
        for key, field in plain.fields.items():
            if key.startswith("llama.") and key != "llama.vocab_size":
                value = field.contents()
                (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(key, value)
        for tensor in plain.tensors:
            writer.add_tensor(tensor.name, np.array(tensor.data))
        writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    factors = llama3_factors(8.0, 50_000.0, D // H)
    config, tensors = hugging_face(read_gguf(with_factors(tmp_path / "a.gguf", factors)))
    assert "rope_freqs.weight" not in str(tensors().keys())
    told = {"hidden_size": D, "num_attention_heads": H, "head_dim": D // H}
    said = LlamaConfig(**told, rope_parameters=config["rope_scaling"] | {"rope_theta": 50_000.0})
    angles, _ = ROPE_INIT_FUNCTIONS["llama3"](said, "cpu")
    plain = 50_000.0 ** (-np.arange(0, D // H, 2) / (D // H))
    assert config["rope_scaling"]["factor"] == 8.0 and factors.max() > factors.min() == 1.0
    assert np.allclose(plain / factors, angles.numpy(), rtol=1e-5)
    with pytest.raises(FileFormatError, match=r"rope_freqs\.weight stretches"):
        hugging_face(read_gguf(with_factors(tmp_path / "b.gguf", factors * 1.01)))


def test_plain_numbers_are_mapped_and_the_file_stays_as_it_is(tmp_path):
    path = gated(tmp_path / "x.gguf", "llama")
    before = path.read_bytes()
    found = read_gguf(path)
    read_tensor(found, "token_embd.weight").zero_()
    assert path.read_bytes() == before
    half = hugging_face(found)[1](torch.bfloat16)
    assert {tensor.dtype for tensor in half.values()} == {torch.bfloat16}


def test_without_the_library_the_extra_is_named_where_it_is_needed(tmp_path, monkeypatch):
    found = read_gguf(gated(tmp_path / "x.gguf", "llama", Kinds.Q8_0))
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert read_tensor(found, "output_norm.weight").shape == (D,)
    with pytest.raises(MissingExtraError, match=r"cutaway\[gguf\] is needed"):
        read_tensor(found, "token_embd.weight")
