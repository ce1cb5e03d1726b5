"""llama2.c files: the published text of a real one, and exact sizes or an error."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from cutaway import spec
from cutaway.errors import FileFormatError, InputMissingError
from cutaway.models import build
from cutaway.weights.llama2c import halves, hugging_face, read_llama2c, read_vocabulary

REAL = Path(__file__).parents[4] / "shared/data/models/stories260K"
PUBLISHED = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, "
    "she saw a big, red ball. She wanted to play with it, but it was too high."
)
NAMES = {
    "model.embed_tokens": "input.token",
    "model.norm": "final_norm",
    "input_layernorm": "mixer_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn.query",
    "self_attn.k_proj": "attn.key",
    "self_attn.v_proj": "attn.value",
    "self_attn.o_proj": "attn.out",
    "mlp.gate_proj": "ffn.gate",
    "mlp.up_proj": "ffn.up",
    "mlp.down_proj": "ffn.down",
    "model.layers": "blocks",
}
needs_data = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data/models/stories260K is not here")


def ours(name: str) -> str:
    for theirs, here in NAMES.items():
        name = name.replace(theirs, here)
    return name


def model_of(config, tensors):
    """The model of a config table, by the spec of a Llama."""
    rotary = spec.Rotary(config["rope_theta"])
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    norm = spec.RMSNorm(config["rms_norm_eps"])
    block = spec.Block(
        spec.Attention(heads, kv_heads, rotary=rotary), spec.GatedMLP(config["intermediate_size"]), norm
    )
    stack = spec.Stack(config["num_hidden_layers"], (block,), "past", final_norm=norm)
    tokens = spec.Tokens(config["vocab_size"])
    model = build(spec.Single(config["hidden_size"], tokens, stack, spec.NextToken(tied=True)))
    model.load_state_dict({ours(name): tensor for name, tensor in tensors.items()}, strict=True)
    return model.eval()


def continued(model, pieces, count: int) -> str:
    ids = [1]
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return "".join(pieces[number] for number in ids[1:]).lstrip()


@needs_data
def test_a_real_model_continues_the_empty_prompt_with_the_published_text():
    found = read_llama2c(REAL / "stories260K.bin")
    config, tensors = hugging_face(found)
    weights = tensors()
    assert sum(tensor.numel() for tensor in weights.values()) == 260_032
    pieces = read_vocabulary(REAL / "tok512.bin", found.vocab).pieces
    assert continued(model_of(config, weights), pieces, 100).startswith(PUBLISHED)
    # the control: in the file's own order of rows the text is another
    for name, tensor in weights.items():
        if name.endswith("q_proj.weight"):
            back = tensor.unflatten(0, (found.heads, 2, -1)).transpose(1, 2).flatten(0, 2)
            assert torch.equal(halves(back, found.heads), tensor)
            weights[name] = back
    assert not continued(model_of(config, weights), pieces, 100).startswith(PUBLISHED)


@needs_data
def test_the_vocabulary_is_data():
    found = read_vocabulary(REAL / "tok512.bin", 512)
    assert found.pieces[:4] == ("<unk>", "\n<s>\n", "\n</s>\n", "<0x00>") and found.pieces[300] == " ha"
    assert found.scores.shape == (512,) and found.scores[:258].max() == 0 and found.scores[260] < 0
    with pytest.raises(FileFormatError, match="512 pieces, but the model knows 500"):
        read_vocabulary(REAL / "tok512.bin", 500)


SIZES = (8, 12, 2, 2, 1, 5, 6)


def write(path: Path, sizes=SIZES, seed: int = 0, extra: int = 0) -> Path:
    """A small file of random weights."""
    D, F, N, H, G, V, L = sizes
    K = D // H
    count = abs(V) * D * (1 if V > 0 else 2) + N * (2 * D + 2 * D * D + 2 * G * K * D + 3 * F * D) + D + L * K
    values = np.random.default_rng(seed).normal(size=count + extra).astype("<f4")
    path.write_bytes(struct.pack("<7i", *sizes) + values.tobytes())
    return path


@pytest.mark.parametrize("vocab", [5, -5])
def test_every_number_of_a_file_is_used_once(tmp_path, vocab):
    path = write(tmp_path / "m.bin", (*SIZES[:5], vocab, 6))
    config, tensors = hugging_face(read_llama2c(path))
    weights = tensors()
    assert config["tie_word_embeddings"] == (vocab > 0) == ("lm_head.weight" not in weights)
    stored = np.frombuffer(path.read_bytes()[28:], "<f4")
    found = np.sort(np.concatenate([tensor.flatten().numpy() for tensor in weights.values()]))
    tables = 6 * 4
    assert len(found) == len(stored) - tables and np.isin(found, stored).all()
    assert {tensor.dtype for tensor in tensors(torch.bfloat16).values()} == {torch.bfloat16}
    weights["model.norm.weight"].zero_()
    assert np.array_equal(np.frombuffer(path.read_bytes()[28:], "<f4"), stored)


REFUSED = {
    "cut off": (SIZES, -1, "tell of"),
    "one more": (SIZES, 1, "tell of"),
    "no layers": ((8, 12, 0, 2, 1, 5, 6), 0, "no llama2.c model"),
    "negative": ((-8, 12, 2, 2, 1, 5, 6), 0, "no llama2.c model"),
    "huge": ((2**30, 12, 2, 2, 1, 5, 6), 0, "no llama2.c model"),
    "heads": ((8, 12, 2, 3, 1, 5, 6), 0, "do not fit the width"),
    "odd": ((6, 12, 2, 2, 1, 5, 6), 0, "do not fit the width"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_llama2c_file_is_refused(tmp_path, name):
    sizes, extra, rule = REFUSED[name]
    path = write(tmp_path / "m.bin", SIZES, extra=extra)
    path.write_bytes(struct.pack("<7i", *sizes) + path.read_bytes()[28:])
    with pytest.raises(FileFormatError, match=rule):
        read_llama2c(path)
    read_llama2c(write(tmp_path / "good.bin"))


def test_a_width_that_begins_as_a_pickle_does_is_read(tmp_path):
    assert read_llama2c(write(tmp_path / "m.bin", (0x480, 2, 1, 2, 1, 1, 1))).width == 1152


def test_other_files_are_refused_by_name(tmp_path):
    (tmp_path / "later.bin").write_bytes(struct.pack("<I", 0x616B3432) + bytes(252))
    with pytest.raises(FileFormatError, match="a later layout"):
        read_llama2c(tmp_path / "later.bin")
    (tmp_path / "torch.bin").write_bytes(b"PK\x03\x04" + bytes(252))
    with pytest.raises(FileFormatError, match="never unpickles"):
        read_llama2c(tmp_path / "torch.bin")
    with pytest.raises(InputMissingError, match="cannot be read"):
        read_llama2c(tmp_path / "none.bin")


def vocabulary_bytes(pieces, longest=9):
    told = b"".join(struct.pack("<fi", score, len(piece)) + piece for piece, score in pieces)
    return struct.pack("<i", longest) + told


BAD_PIECES = {
    "a length beyond the file": (vocabulary_bytes([(b"a", 0.0)]) + struct.pack("<fi", 0, 50), "length 50"),
    "a negative length": (vocabulary_bytes([]) + struct.pack("<fi", 0, -1), "length -1"),
    "an endless score": (vocabulary_bytes([(b"a", float("inf"))]), "score inf"),
    "no UTF-8": (vocabulary_bytes([(b"a\xff", 0.0)]), "not UTF-8"),
    "half a piece": (vocabulary_bytes([(b"a", 0.0)]) + b"\0\0", "ends inside"),
    "a piece too many": (vocabulary_bytes([(b"a", 0.0), (b"b", 0.0)]), "2 pieces, but"),
    "a lie": (vocabulary_bytes([(b"abc", 0.0)], longest=2), "longer than it says"),
}


@pytest.mark.parametrize("name", BAD_PIECES)
def test_a_damaged_vocabulary_is_refused(tmp_path, name):
    data, rule = BAD_PIECES[name]
    (tmp_path / "t.bin").write_bytes(data)
    with pytest.raises(FileFormatError, match=rule):
        read_vocabulary(tmp_path / "t.bin", 1)
