"""Which Hugging Face model a GGUF file's metadata and tensors describe: llama, qwen2, qwen3, gpt2.

D width   H query heads   G key/value heads   K head width   F feed-forward hidden   V vocabulary   N layers
L positions   E a bias or gain, whatever its length
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from cutaway.errors import FileFormatError
from cutaway.weights.gguf.header import Gguf
from cutaway.weights.gguf.keys import ROPE, Keys, Line
from cutaway.weights.gguf.stretch import FREQUENCIES, stretch
from cutaway.weights.gguf.values import read_tensor

Model = tuple[dict[str, Any], dict[str, Line]]
Order = Callable[[int], Callable[[Tensor], Tensor] | None]  # what undoes the order of so many heads' rows
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"


def llama(gguf: Gguf) -> Model:
    """Llama, SmolLM, Mistral: rotary, RMS norm, gated; llama.cpp reorders the rows of q and k."""
    keys = Keys(gguf, "llama")
    keys.only("expert_count", 0, "experts are not built yet")
    keys.get("expert_used_count")
    config, lines = gated(gguf, keys, "llama", lambda heads: partial(unpermute, heads=heads))
    if (window := keys.get("attention.sliding_window")) not in (None, 0):
        config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
        config["sliding_window"] = keys.count("attention.sliding_window", window)
    else:
        config["attention_bias"] = "blk.0.attn_q.bias" in gguf.tensors
        config["mlp_bias"] = "blk.0.ffn_gate.bias" in gguf.tensors
    if FREQUENCIES in gguf.tensors:
        width = config["head_dim"]
        lines[FREQUENCIES] = Line("", (width // 2,))
        check_shape(gguf, FREQUENCIES, lines[FREQUENCIES])
        factors = read_tensor(gguf, FREQUENCIES).double().numpy()
        config["rope_scaling"] = stretch(gguf.path, factors, config["rope_theta"], width)
    keys.check_all_asked()
    return config, lines


def qwen2(gguf: Gguf) -> Model:
    """Qwen2: Llama with biases on q, k and v, in Hugging Face's own order of rows."""
    keys = Keys(gguf, "qwen2")
    config, lines = gated(gguf, keys, "qwen2", lambda heads: None)
    config["use_sliding_window"] = False
    if config["head_dim"] == config["hidden_size"] // config["num_attention_heads"]:
        del config["head_dim"]  # Hugging Face's Qwen2 has no such key
    keys.check_all_asked()
    return config, lines


def qwen3(gguf: Gguf) -> Model:
    """Qwen3: Llama with a norm of each head's q and k, in Hugging Face's own order of rows."""
    keys = Keys(gguf, "qwen3")
    config, lines = gated(gguf, keys, "qwen3", lambda heads: None)
    config |= {"attention_bias": False, "use_sliding_window": False}
    keys.check_all_asked()
    return config, lines


def gated(gguf: Gguf, keys: Keys, kind: str, order: Order) -> Model:
    """What the three share; `order` tells how the rows of q and k have been reordered."""
    D, N = keys.count("embedding_length"), layers(gguf, keys)
    H = keys.count("attention.head_count")
    G = keys.count("attention.head_count_kv", H)
    F = keys.count("feed_forward_length")
    K = keys.count("attention.key_length", keys.get("rope.dimension_count") or max(1, D // H))
    keys.only("attention.value_length", K, f"values as wide as keys ({K}) are built")
    keys.only("rope.dimension_count", K, f"rotation of the whole head ({K}) is built")
    keys.only("attention.causal", True, "a model that sees the past only is built")
    if K % 2 or H % G:
        raise keys.refuse("attention.head_count", f"{H} heads of width {K} do not fit {G} key/value heads")
    V = vocabulary(gguf, keys)
    config = {
        "model_type": kind,
        "architectures": [f"{kind.capitalize()}ForCausalLM"],
        "vocab_size": V,
        "hidden_size": D,
        "intermediate_size": F,
        "num_hidden_layers": N,
        "num_attention_heads": H,
        "num_key_value_heads": G,
        "head_dim": K,
        "hidden_act": "silu",
        "max_position_embeddings": keys.count("context_length"),
        "rms_norm_eps": keys.real("attention.layer_norm_rms_epsilon"),
        "rope_theta": keys.real("rope.freq_base", 10_000.0),
        "rope_scaling": scaling(keys),
        "tie_word_embeddings": OUTPUT not in gguf.tensors,
    } | special(keys)
    lines = {
        EMBEDDING: Line("model.embed_tokens.weight", (V, D)),
        "output_norm.weight": Line("model.norm.weight", (D,)),
    }
    if OUTPUT in gguf.tensors:
        lines[OUTPUT] = Line("lm_head.weight", (V, D))
    for n in range(N):
        here, there = f"blk.{n}.", f"model.layers.{n}."
        for name, line in gated_layer(kind, (D, H, G, K, F), order):
            if f"{here}{name}" in gguf.tensors or not optional(kind, name):
                lines[f"{here}{name}"] = Line(there + line.name, line.shape, line.turn)
    return config, lines


def gated_layer(kind: str, sizes: tuple[int, int, int, int, int], order: Order) -> Iterator[tuple[str, Line]]:
    """The tensors of one layer, by their names in GGUF."""
    D, H, G, K, F = sizes
    yield "attn_norm.weight", Line("input_layernorm.weight", (D,))
    yield "ffn_norm.weight", Line("post_attention_layernorm.weight", (D,))
    matrices = (
        ("attn_q", "self_attn.q_proj", (H * K, D), order(H)),
        ("attn_k", "self_attn.k_proj", (G * K, D), order(G)),
        ("attn_v", "self_attn.v_proj", (G * K, D), None),
        ("attn_output", "self_attn.o_proj", (D, H * K), None),
        ("ffn_gate", "mlp.gate_proj", (F, D), None),
        ("ffn_up", "mlp.up_proj", (F, D), None),
        ("ffn_down", "mlp.down_proj", (D, F), None),
    )
    for here, there, shape, turn in matrices:
        yield f"{here}.weight", Line(f"{there}.weight", shape, turn)
        if has_bias(kind, here):
            yield f"{here}.bias", Line(f"{there}.bias", shape[:1], turn)
    if kind == "qwen3":
        yield "attn_q_norm.weight", Line("self_attn.q_norm.weight", (K,))
        yield "attn_k_norm.weight", Line("self_attn.k_norm.weight", (K,))


def has_bias(kind: str, name: str) -> bool:
    """Whether a matrix may have a bias: any of Llama's, Qwen2's q, k and v, none of Qwen3's."""
    return kind == "llama" or (kind == "qwen2" and name in ("attn_q", "attn_k", "attn_v"))


def optional(kind: str, name: str) -> bool:
    """Whether a tensor may be missing: a bias of Llama's."""
    return kind == "llama" and name.endswith(".bias")


def gpt2(gguf: Gguf) -> Model:
    """GPT-2: learned positions, q, k and v in one matrix; Hugging Face keeps the matrices turned."""
    keys = Keys(gguf, "gpt2")
    D, N, L = keys.count("embedding_length"), layers(gguf, keys), keys.count("context_length")
    F, V = keys.count("feed_forward_length", 4 * D), vocabulary(gguf, keys)
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": V,
        "n_positions": L,
        "n_embd": D,
        "n_layer": N,
        "n_head": keys.count("attention.head_count"),
        "n_inner": F,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": keys.real("attention.layer_norm_epsilon"),
        "tie_word_embeddings": OUTPUT not in gguf.tensors,
    } | special(keys)
    keys.check_all_asked()
    lines = {
        EMBEDDING: Line("transformer.wte.weight", (V, D)),
        "position_embd.weight": Line("transformer.wpe.weight", (L, D)),
        "output_norm.weight": Line("transformer.ln_f.weight", (D,)),
        "output_norm.bias": Line("transformer.ln_f.bias", (D,)),
    }
    if OUTPUT in gguf.tensors:
        lines[OUTPUT] = Line("lm_head.weight", (V, D))
    for n in range(N):
        here, there = f"blk.{n}.", f"transformer.h.{n}."
        for name, other in (("attn_norm", "ln_1"), ("ffn_norm", "ln_2")):
            lines[f"{here}{name}.weight"] = Line(f"{there}{other}.weight", (D,))
            lines[f"{here}{name}.bias"] = Line(f"{there}{other}.bias", (D,))
        for name, other, shape in (
            ("attn_qkv", "attn.c_attn", (3 * D, D)),
            ("attn_output", "attn.c_proj", (D, D)),
            ("ffn_up", "mlp.c_fc", (F, D)),
            ("ffn_down", "mlp.c_proj", (D, F)),
        ):
            lines[f"{here}{name}.weight"] = Line(f"{there}{other}.weight", shape, transposed)
            lines[f"{here}{name}.bias"] = Line(f"{there}{other}.bias", shape[:1])
    return config, lines


def layers(gguf: Gguf, keys: Keys) -> int:
    """The number of layers; FileFormatError where the file has fewer tensors than that."""
    count = keys.count("block_count")
    if count > len(gguf.tensors):
        raise keys.refuse("block_count", f"{count:,} layers, but the file has {len(gguf.tensors):,} tensors")
    return count


def vocabulary(gguf: Gguf, keys: Keys) -> int:
    """The number of tokens: the rows of the embedding, which no list of tokens may outnumber."""
    if EMBEDDING not in gguf.tensors:
        raise FileFormatError(gguf.path, f"{EMBEDDING} is missing; the file holds no model, or half of one")
    rows = gguf.tensors[EMBEDDING].shape[0] if gguf.tensors[EMBEDDING].shape else 0
    keys.only("vocab_size", rows, f"the embedding has {rows:,} rows")
    tokens = gguf.metadata.get("tokenizer.ggml.tokens", ())
    if isinstance(tokens, tuple | np.ndarray) and len(tokens) > rows:
        raise FileFormatError(gguf.path, f"{len(tokens):,} tokens, but the embedding has {rows:,} rows")
    return rows


def scaling(keys: Keys) -> dict[str, Any] | None:
    """Hugging Face's table of how the rotation is stretched, None where it is not."""
    kind = keys.get(f"{ROPE}.type", "none")
    if kind == "none":
        keys.only(f"{ROPE}.factor", 1.0, "without rope.scaling.type it says nothing")
        return None
    if kind not in ("linear", "yarn"):
        raise keys.refuse(f"{ROPE}.type", f"{str(kind)[:40]!r} is not known; linear and yarn are")
    found: dict[str, Any] = {"rope_type": kind, "factor": keys.real(f"{ROPE}.factor")}
    if kind == "yarn":
        found["original_max_position_embeddings"] = keys.count(f"{ROPE}.original_context_length")
        keys.get(f"{ROPE}.finetuned")
    return found


def special(keys: Keys) -> dict[str, int]:
    """The ids of the special tokens that the file names."""
    named = (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
    return {f"{to}_token_id": found for to, name in named if (found := keys.token(name)) is not None}


def check_shape(gguf: Gguf, name: str, line: Line) -> None:
    """FileFormatError where a tensor has another shape than the metadata tells."""
    info = gguf.tensors[name]
    if info.shape != line.shape:
        told = f"tensor {name!r} has shape {info.shape}, but the metadata tells of {line.shape}"
        raise FileFormatError(gguf.path, told, info.begin)


def unpermute(weight_ED: Tensor, heads: int) -> Tensor:
    """Rows of q or k, or their biases, from adjacent pairs (llama.cpp) to halves (Hugging Face)."""
    return weight_ED.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def transposed(weight_FD: Tensor) -> Tensor:
    """A matrix as GPT-2's own code keeps it, a row an input."""
    return weight_FD.T


ARCHITECTURES: dict[str, Callable[[Gguf], Model]] = {
    "llama": llama,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gpt2": gpt2,
}
