"""A config.json, read strictly: every key is taken by name, with its type and its default; the rest is told.

The keys that say what a model computes are taken one by one by the family's reader, or required to have the
one value that is built. Those on `HARMLESS`, or on the family's own list, say nothing about inference. What
is left is unknown: it is reported and, like `auto_map`, never selects code.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cutaway.errors import FileFormatError
from cutaway.store import read_object, told

MOST_TOLD = 500  # characters of an error: a value can be as long as the file
MISSING: Any = object()
WIDEST = 2**24  # of any one axis; with the others below, no product of a matrix leaves 64 bits
MOST_TOKENS, MOST_HEADS, MOST_LAYERS, MOST_SIDE = 2**28, 2**16, 2**10, 2**16

# None of these changes what a model computes once it is loaded: names, ids, training, generating.
_HARMLESS = """
    model_type architectures _name_or_path name_or_path transformers_version torch_dtype dtype use_cache
    gradient_checkpointing initializer_range initializer_factor init_std return_dict use_return_dict
    output_attentions output_hidden_states output_scores torchscript finetuning_task task_specific_params
    problem_type tokenizer_class prefix id2label label2id num_labels chunk_size_feed_forward
    bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id mask_token_id unk_token_id
    decoder_start_token_id forced_bos_token_id forced_eos_token_id suppress_tokens begin_suppress_tokens
    max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature
    top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size bad_words_ids
    encoder_no_repeat_ngram_size num_return_sequences remove_invalid_values exponential_decay_length_penalty
    return_dict_in_generate is_encoder_decoder _attn_implementation_autoset _commit_hash
    hidden_dropout_prob attention_probs_dropout_prob classifier_dropout classif_dropout attention_dropout
    activation_dropout dropout dropout_rate resid_pdrop embd_pdrop attn_pdrop encoder_layerdrop
    decoder_layerdrop layerdrop pretraining_tp output_past _num_labels transformers.js_config
"""
HARMLESS = frozenset(_HARMLESS.split())

# What would change the mathematics of any family: only these values are built.
BUILT: dict[str, tuple[object, ...]] = {
    "quantization_config": (None,),
    "pruned_heads": (None, {}),
    "per_layer_config": (None, {}),
    "position_embedding_type": ("absolute",),
    "cross_attention_hidden_size": (None,),
    "add_cross_attention": (False,),
    "is_decoder": (False,),
    "tie_encoder_decoder": (False,),
    "partial_rotary_factor": (1, 1.0, None),
    "rope_interleaved": (False,),
    "use_mrope": (False,),
}

ACTIVATIONS = {
    "relu": "relu",
    "relu2": "relu_squared",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}


class Table:
    """The keys of one config.json; each taken once, what is left told by `unknown`.

    `under` is the key of a table inside another. Every method raises FileFormatError, naming file and key,
    for a value that does not fit.
    """

    def __init__(self, values: Mapping[str, Any], path: str | Path = "config.json", under: str = ""):
        self.values, self.path, self.under = values, Path(path), under
        self.taken: set[str] = set()

    def refuse(self, key: str, rule: str) -> FileFormatError:
        """The error that names this file and key."""
        where = f"{self.under}.{key}" if self.under else key
        return FileFormatError(
            self.path, f"{where}: {rule if len(rule) <= MOST_TOLD else rule[:MOST_TOLD] + '...'}"
        )

    def take(self, key: str, default: Any = MISSING, also: str | None = None) -> Any:
        """The value of a key as it stands; `also` is a second name of the same thing."""
        self.taken |= {key} if also is None else {key, also}
        value = self.values.get(key, MISSING)
        other = MISSING if also is None else self.values.get(also, MISSING)
        if MISSING not in (value, other) and value != other:
            raise self.refuse(key, f"{told(value)}, but {also} says {told(other)}: keep the right one")
        value = other if value is MISSING else value
        if value is MISSING and default is MISSING:
            raise self.refuse(key, "missing, and without it the model is unknown: restore it")
        return default if value is MISSING else value

    def count(
        self, key: str, default: Any = MISSING, *, most: int = WIDEST, least: int = 1, also: str | None = None
    ) -> int:
        """A whole number from `least` to `most`."""
        value = self.take(key, default, also)
        if type(value) is not int or not least <= value <= most:
            raise self.refuse(key, f"{told(value)} must be a whole number from {least} to {most:,}")
        return value

    def optional(self, key: str, default: int | None = None, *, most: int = WIDEST) -> int | None:
        """A whole number, or null where the published class has a rule of its own for it."""
        if self.values.get(key, default) is None:
            self.taken.add(key)
            return None
        return self.count(key, default, most=most)

    def number(self, key: str, default: Any = MISSING, *, least: float = 0.0) -> float:
        """A finite number of at least `least`."""
        value = self.take(key, default)
        if type(value) not in (int, float) or not least <= value <= 1e300:
            raise self.refuse(key, f"{told(value)} must be a number of at least {least}")
        return float(value)

    def flag(self, key: str, default: Any = MISSING) -> bool:
        """True or false."""
        value = self.take(key, default)
        if type(value) is not bool:
            raise self.refuse(key, f"{told(value)} must be true or false")
        return value

    def choice(self, key: str, default: Any, known: Mapping[str, Any]) -> Any:
        """What a word stands for in the table of what is built."""
        value = self.take(key, default)
        if type(value) is not str or value not in known:
            raise self.refuse(key, f"{told(value)} is not built; Cutaway has {', '.join(known)}")
        return known[value]

    def activation(self, key: str, default: str) -> Any:
        """Our name of an activation."""
        return self.choice(key, default, ACTIVATIONS)

    def only(self, key: str, *values: object) -> None:
        """Refuses a key that is there with a value for which nothing is built."""
        self.taken.add(key)
        value = self.values.get(key, MISSING)
        if value is not MISSING and not any(value == v and type(value) is type(v) for v in values):
            allowed = " or ".join(json.dumps(v) for v in values)
            raise self.refuse(key, f"{told(value)} is not built; Cutaway has {allowed}")

    def labels(self) -> tuple[str, ...]:
        """The names of the classes, from id2label; as many nameless ones as num_labels says, else two."""
        named = self.take("id2label", None)
        if named is None:
            return tuple(f"LABEL_{i}" for i in range(self.count("num_labels", 2)))
        whole = isinstance(named, dict) and named and all(isinstance(v, str) for v in named.values())
        if not whole or set(named) != {str(i) for i in range(len(named))}:
            raise self.refuse("id2label", f"{told(named)} must name the classes 0, 1, ...")
        return tuple(named[str(i)] for i in range(len(named)))

    def unknown(self, harmless: Iterable[str] = ()) -> tuple[str, ...]:
        """The keys nobody knows, after refusing those of `BUILT` with another value; for a reader's end."""
        for key, values in BUILT.items():
            if key not in self.taken:
                self.only(key, *values)
        return tuple(
            sorted(str(key) for key in self.values if key not in self.taken | HARMLESS | set(harmless))
        )


def read_config(path: Path) -> Table:
    """The table of a config.json. Raises InputMissingError, or FileFormatError for what is none."""
    return Table(read_object(path), path)
