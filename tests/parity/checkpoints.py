"""Small random checkpoints of every family, made with transformers: what the parity tests load and compare.

Every parameter is drawn anew, also biases, gains, relative tables and the Marian bias that is a buffer: fresh
ones are 0 and 1 and hide mistakes.
"""

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

from cutaway.nn import part
from cutaway.weights.families.marian import HALVES
from tests.unit.models.test_parity import InFloat64

hf.logging.set_verbosity_error()
hf.utils.logging.disable_progress_bar()

VOCAB, LENGTH = 13, 16
BODY = {"vocab_size": VOCAB, "hidden_size": 12, "num_hidden_layers": 2, "intermediate_size": 20}
EAGER = {"attn_implementation": "eager", "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
STRETCH = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
STRETCH |= {"original_max_position_embeddings": 32, "rope_theta": 500.0}


@dataclass(frozen=True)
class Case:
    """One configuration of a family, what it is an example of, and of what kind its inputs are."""

    family: str
    model: type
    config: dict[str, Any]
    shows: frozenset[str]
    reads: str = "text"
    change: Callable[[nn.Module], None] = field(default=lambda model: None)

    def build(self, dtype: torch.dtype = torch.float64) -> Any:
        """The model of transformers in evaluation mode, its parameters drawn in float64 and then rounded."""
        kinds = {"gpt2": hf.GPT2Config, "llama": hf.LlamaConfig, "mistral": hf.MistralConfig}
        kinds |= {"qwen2": hf.Qwen2Config, "qwen3": hf.Qwen3Config, "bert": hf.BertConfig, "t5": hf.T5Config}
        kinds |= {"marian": hf.MarianConfig, "vit": hf.ViTConfig}
        extra = {} if self.reads == "images" else EAGER
        config = kinds[self.family](**{**extra, "attn_implementation": "eager", **self.config})
        model = self.model(config).double()
        self.change(model)
        redraw(model)
        if dtype == torch.float64:
            for module in model.modules():
                if hasattr(module, "rotary_emb"):  # their angles are of float32, and would end at 1e-7
                    with InFloat64():
                        module.rotary_emb = type(module.rotary_emb)(config)
        return model.to(dtype).eval()


def redraw(model: nn.Module, seed: int = 0) -> None:
    """Every parameter anew, and the buffers that are learned."""
    generator = torch.Generator().manual_seed(seed)
    drawn = dict(model.named_parameters()) | {
        name: value for name, value in model.named_buffers() if name == "final_logits_bias"
    }
    with torch.no_grad():
        for name, value in drawn.items():
            if "embed_positions" in name:
                places = torch.arange(value.size(0))[None]
                value.copy_(part(HALVES, value.size(1))(places, value.size(0) - 1)[0])
                continue
            gain = ("norm" in name.lower() or "ln_" in name) and name.endswith("weight")
            gain *= 2 if "q_norm" in name or "k_norm" in name else 1
            strong = 1.0 if "relative" in name else 0.5
            value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64) * strong + gain)


def untie(model: nn.Module) -> None:
    """Give the output a matrix of its own, as the files of T5 1.1 have it."""
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    model.all_tied_weights_keys.pop("lm_head.weight", None)


def case(family: str, model: type, shows: str, config: dict[str, Any], **more: Any) -> Case:
    return Case(family, model, config, frozenset(shows.split()), **more)


TALL = {"n_positions": LENGTH, "n_embd": 12, "n_layer": 2, "vocab_size": VOCAB}
PAIR = {"vocab_size": VOCAB, "d_model": 12, "num_layers": 2, "d_ff": 20, "decoder_start_token_id": 0}
BOTH = {"vocab_size": VOCAB, "d_model": 12, "max_position_embeddings": LENGTH, "decoder_start_token_id": 0}
SIDES = {"encoder_layers": 2, "decoder_layers": 1, "encoder_ffn_dim": 20, "decoder_ffn_dim": 16}
BERT = BODY | {"max_position_embeddings": LENGTH, "num_attention_heads": 3}
IMAGE = {"hidden_size": 12, "num_hidden_layers": 2, "intermediate_size": 20, "image_size": 8, "patch_size": 4}

CASES: dict[str, Case] = {
    "gpt2": case(
        "gpt2",
        hf.GPT2LMHeadModel,
        "odd biases tied smallest",
        TALL | {"n_head": 3, "n_inner": 20, "n_layer": 1},
    ),
    "gpt2 own output": case(
        "gpt2",
        hf.GPT2LMHeadModel,
        "untied",
        TALL | {"n_head": 2, "tie_word_embeddings": False, "activation_function": "relu"}
        | {"scale_attn_weights": False, "layer_norm_epsilon": 1e-3},
    ),
    "llama": case(
        "llama",
        hf.LlamaForCausalLM,
        "odd grouped no_biases tied smallest",
        BODY | {"num_attention_heads": 3, "num_key_value_heads": 1, "tie_word_embeddings": True}
        | {"num_hidden_layers": 1, "rms_norm_eps": 1e-3},
    ),
    "llama 3.1": case(
        "llama",
        hf.LlamaForCausalLM,
        "grouped biases untied",
        BODY | {"num_attention_heads": 4, "num_key_value_heads": 2, "attention_bias": True, "mlp_bias": True}
        | {"head_dim": 6, "rope_parameters": STRETCH, "hidden_act": "gelu"},
    ),
    "llama interpolated": case(
        "llama",
        hf.LlamaForCausalLM,
        "untied no_biases",
        BODY | {"num_attention_heads": 2, "rope_parameters": {"rope_type": "linear", "factor": 4.0}},
    ),
    "mistral": case(
        "mistral",
        hf.MistralForCausalLM,
        "odd grouped no_biases untied window smallest",
        BODY | {"num_attention_heads": 3, "num_key_value_heads": 1, "sliding_window": 3}
        | {"num_hidden_layers": 1},
    ),
    "mistral tied": case(
        "mistral",
        hf.MistralForCausalLM,
        "tied",
        BODY | {"num_attention_heads": 2, "num_key_value_heads": 2, "sliding_window": None}
        | {"tie_word_embeddings": True, "head_dim": 8},
    ),
    "qwen2": case(
        "qwen2",
        hf.Qwen2ForCausalLM,
        "odd grouped biases tied smallest",
        BODY | {"num_attention_heads": 3, "num_key_value_heads": 1, "tie_word_embeddings": True}
        | {"num_hidden_layers": 1},
    ),
    "qwen2 windows": case(
        "qwen2",
        hf.Qwen2ForCausalLM,
        "grouped untied window",
        BODY | {"num_attention_heads": 2, "num_key_value_heads": 1, "use_sliding_window": True}
        | {"sliding_window": 3, "max_window_layers": 1},
    ),
    "qwen3": case(
        "qwen3",
        hf.Qwen3ForCausalLM,
        "odd grouped no_biases tied smallest",
        BODY | {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 6}
        | {"tie_word_embeddings": True, "num_hidden_layers": 1},
    ),
    "qwen3 windows": case(
        "qwen3",
        hf.Qwen3ForCausalLM,
        "grouped biases untied window",
        BODY | {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "attention_bias": True}
        | {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
    ),
    "bert": case("bert", hf.BertForMaskedLM, "odd biases tied smallest", BERT | {"num_hidden_layers": 1}),
    "bert own output": case(
        "bert", hf.BertForMaskedLM, "untied", BERT | {"tie_word_embeddings": False, "hidden_act": "gelu_new"}
    ),
    "bert bare": case("bert", hf.BertModel, "bare", BERT | {"layer_norm_eps": 1e-3}),
    "bert classes": case(
        "bert", hf.BertForSequenceClassification, "classes", BERT | {"num_labels": 3, "type_vocab_size": 1}
    ),
    "t5": case(
        "t5",
        hf.T5ForConditionalGeneration,
        "odd no_biases tied smallest",
        PAIR | {"num_heads": 3, "d_kv": 5, "num_layers": 1, "relative_attention_num_buckets": 8}
        | {"relative_attention_max_distance": 10},
        reads="pairs",
    ),
    "t5 1.1": case(
        "t5",
        hf.T5ForConditionalGeneration,
        "untied",
        PAIR | {"num_heads": 2, "d_kv": 4, "feed_forward_proj": "gated-gelu", "num_decoder_layers": 1}
        | {"tie_word_embeddings": False},
        reads="pairs",
        change=untie,
    ),
    "marian": case(
        "marian",
        hf.MarianMTModel,
        "odd biases tied smallest",
        BOTH | SIDES | {"encoder_attention_heads": 3, "decoder_attention_heads": 2, "scale_embedding": True}
        | {"encoder_layers": 1},
        reads="pairs",
    ),
    "marian two vocabularies": case(
        "marian",
        hf.MarianMTModel,
        "two_inputs",
        BOTH | SIDES | {"encoder_attention_heads": 2, "decoder_attention_heads": 3}
        | {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": VOCAB + 2},
        reads="pairs",
    ),
    "marian own output": case(
        "marian",
        hf.MarianMTModel,
        "untied two_inputs",
        BOTH | SIDES | {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
        | {"tie_word_embeddings": False, "activation_function": "swish"},
        reads="pairs",
    ),
    "vit": case(
        "vit",
        hf.ViTForImageClassification,
        "odd biases classes smallest",
        IMAGE | {"num_attention_heads": 3, "num_labels": 5, "num_hidden_layers": 1},
        reads="images",
    ),
    "vit bare": case(
        "vit",
        hf.ViTModel,
        "no_biases bare",
        IMAGE | {"num_attention_heads": 2, "qkv_bias": False, "num_channels": 1, "hidden_act": "relu"},
        reads="images",
    ),
}  # fmt: skip
SMALLEST = {name: one for name, one in CASES.items() if "smallest" in one.shows}


def save(model: Any, folder: Path) -> Path:
    """Saved with transformers' own writer."""
    model.save_pretrained(folder)
    return folder


def inputs(
    of: Case, dtype: torch.dtype = torch.float64, rows: int = 2, length: int = 9
) -> tuple[Tensor, ...]:
    """What a model of this case reads."""
    generator = torch.Generator().manual_seed(1)
    if of.reads == "images":
        channels, side = of.config.get("num_channels", 3), of.config["image_size"]
        return (torch.randn(rows, channels, side, side, generator=generator, dtype=torch.float64).to(dtype),)
    sizes = (length, length - 3) if of.reads == "pairs" else (length,)
    return tuple(torch.randint(1, VOCAB, (rows, size), generator=generator) for size in sizes)


@dataclass(frozen=True)
class Answer:
    """What a model says: logits (of a bare model its vectors), hidden states by the names of our taps.

    The keys of every attention are among them: their biases add the same to all scores of a query where
    nothing rotates, so that no later number depends on them.
    """

    logits: Tensor
    hidden: dict[str, Tensor]
    pooled: Tensor | None = None

    def places(self) -> set[str]:
        """The taps to compare."""
        return {*self.hidden} | ({"head.pooled"} if self.pooled is not None else set())

    def compare(self, seen: dict[str, Tensor], apart: Callable[[Tensor, Tensor], float]) -> float:
        """The largest distance of what our taps saw from theirs."""
        found = {}
        for place, theirs in self.hidden.items():
            ours = seen[place]
            found[place] = apart(ours.transpose(1, 2).flatten(2) if place.endswith(".k") else ours, theirs)
        if self.pooled is not None:
            found["head.pooled"] = apart(seen["head.pooled"], self.pooled)
        return max(found.values())


class Keys:
    """While entered, collects what the key projections of their model say, under the names of our taps."""

    def __init__(self, of: Case, model: Any):
        self.said: dict[str, Tensor] = {}
        self.hooks = []
        for name, module in model.named_modules():
            if not name.endswith(("k_proj", "self.key", "Attention.k")):
                continue
            depth = re.search(r"\b(?:layers?|block)\.(\d+)\.", name)
            side = next((f"{s}." for s in ("encoder", "decoder") if f"{s}." in name), "")
            side = side if of.reads == "pairs" else ""
            kind = "cross" if "encoder_attn" in name or "EncDec" in name else "attn"
            place = f"{side}blocks.{depth[1]}.{kind}.k"
            self.hooks.append(module.register_forward_hook(partial(self.keep, place)))

    def keep(self, place: str, module: nn.Module, read: Any, said: Tensor) -> None:
        self.said[place] = said

    def __enter__(self) -> dict[str, Tensor]:
        return self.said

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()


def ask_theirs(of: Case, model: Any, read: tuple[Tensor, ...], padding: Tensor | None = None) -> Answer:
    """Their answer; positions count real tokens only, where the model lets one say so."""
    options: dict[str, Any] = {"output_hidden_states": True, "return_dict": True}
    if of.reads != "images":
        options |= {"use_cache": False, "input_ids": read[0]}
        options |= {} if padding is None else {"attention_mask": padding.long()}
    else:
        options["pixel_values"] = read[0]
    if of.reads == "pairs":
        options["decoder_input_ids"] = read[1]
    elif of.reads == "text" and padding is not None:
        options["position_ids"] = (padding.long().cumsum(1) - 1).clamp(min=0)
    fine = InFloat64() if next(model.parameters()).dtype == torch.float64 else nullcontext()
    with Keys(of, model) as keys, fine:
        said = model(**options)
    logits = said.logits if "logits" in said else said.last_hidden_state
    return Answer(logits, named(of, said) | keys, said.get("pooler_output"))


def named(of: Case, said: Any) -> dict[str, Tensor]:
    """Their hidden states under the names of our taps; the last of a stack is behind its norm, if any."""
    hidden: dict[str, Tensor] = {}
    sides = {"": said.get("hidden_states")}
    if of.reads == "pairs":
        sides = {"encoder.": said.encoder_hidden_states, "decoder.": said.decoder_hidden_states}
    for side, states in sides.items():
        first, *rest = states
        hidden[f"{side}input.out"] = first
        hidden |= {f"{side}blocks.{depth}.out": state for depth, state in enumerate(rest)}
        if of.family not in ("bert", "marian", "vit"):
            hidden[f"{side}final_norm.out"] = hidden.pop(f"{side}blocks.{len(rest) - 1}.out")
    if of.reads == "images" and "last_hidden_state" in said:
        hidden["final_norm.out"] = said.last_hidden_state
    return hidden
