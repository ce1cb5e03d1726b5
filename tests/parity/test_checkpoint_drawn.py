"""Configurations nobody chose: drawn at random, made with transformers, loaded, compared, saved.

CUTAWAY_DRAWS asks for more of each family than the few of every run.
"""

import os
import random
from typing import Any

import pytest
import torch
import transformers as hf

from cutaway.tap import Recorder
from cutaway.weights.export import save_pretrained
from cutaway.weights.families import FAMILIES
from cutaway.weights.folder import read_folder
from cutaway.weights.safe import read_tensors
from tests.parity.checkpoints import LENGTH, VOCAB, Case, ask_theirs, inputs, save, untie
from tests.parity.test_checkpoints import WORST_KL, apart, kl

DRAWS = int(os.environ.get("CUTAWAY_DRAWS", "5"))
ACTS = ("relu", "gelu", "gelu_new", "silu")
LARGEST = 1e-10  # relative; deeper and more strongly amplifying than the chosen ones


def drawn(family: str, seed: int) -> Case:
    """A configuration of a family; the seed decides everything."""
    pick = random.Random(f"{family} {seed}")
    heads, layers, hidden = pick.randint(1, 5), pick.randint(1, 3), pick.randint(3, 30)
    width, act, eps = heads * pick.choice((2, 4, 6)), pick.choice(ACTS), 10 ** -pick.uniform(2, 12)
    yes = [pick.random() < 0.5 for _ in range(4)]
    body: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": width, "num_hidden_layers": layers}
    body |= {"intermediate_size": hidden, "num_attention_heads": heads, "hidden_act": act}
    shared = pick.choice([n for n in range(1, heads + 1) if heads % n == 0])
    rotary = {"num_key_value_heads": shared, "rms_norm_eps": eps, "tie_word_embeddings": yes[0]}
    rotary |= {"rope_parameters": {"rope_type": "default", "rope_theta": pick.uniform(10, 1e6)}}
    windows = {"use_sliding_window": yes[1], "sliding_window": pick.randint(1, 6)}
    windows |= {"max_window_layers": pick.randint(0, layers)}
    match family:
        case "gpt2":
            config = {"n_positions": LENGTH, "n_embd": width, "n_layer": layers, "n_head": heads}
            config |= {
                "vocab_size": VOCAB,
                "n_inner": pick.choice((None, hidden)),
                "activation_function": act,
            }
            config |= {"layer_norm_epsilon": eps, "scale_attn_weights": yes[0], "tie_word_embeddings": yes[1]}
            return Case(family, hf.GPT2LMHeadModel, config, frozenset())
        case "llama":
            biases = {"attention_bias": yes[1], "mlp_bias": yes[2]}
            return Case(family, hf.LlamaForCausalLM, body | rotary | biases, frozenset())
        case "mistral":
            own = {
                "sliding_window": pick.choice((None, pick.randint(1, 6))),
                "head_dim": pick.choice((2, 4, 6)),
            }
            return Case(family, hf.MistralForCausalLM, body | rotary | own, frozenset())
        case "qwen2":
            return Case(family, hf.Qwen2ForCausalLM, body | rotary | windows, frozenset())
        case "qwen3":
            own = {"head_dim": pick.choice((2, 4, 6)), "attention_bias": yes[2]}
            return Case(family, hf.Qwen3ForCausalLM, body | rotary | windows | own, frozenset())
        case "bert":
            config = body | {"max_position_embeddings": LENGTH, "layer_norm_eps": eps, "num_labels": hidden}
            config |= {"tie_word_embeddings": yes[0], "type_vocab_size": pick.randint(1, 3)}
            kinds = (hf.BertForMaskedLM, hf.BertModel, hf.BertForSequenceClassification)
            return Case(family, pick.choice(kinds), config, frozenset())
        case "t5":
            config = {"vocab_size": VOCAB, "d_model": width, "num_layers": layers, "num_heads": heads}
            config |= {"d_ff": hidden, "d_kv": pick.randint(1, 6), "layer_norm_epsilon": eps}
            config |= {"feed_forward_proj": ("gated-" if yes[0] else "") + pick.choice(("relu", "silu"))}
            config |= {
                "relative_attention_num_buckets": pick.choice((4, 8, 32)),
                "tie_word_embeddings": yes[1],
            }
            config |= {"relative_attention_max_distance": pick.randint(17, 128), "decoder_start_token_id": 0}
            config |= {"num_decoder_layers": pick.choice((None, 1, 2))}
            own = {} if yes[1] else {"change": untie}
            return Case(family, hf.T5ForConditionalGeneration, config, frozenset(), "pairs", **own)
        case "marian":
            config = {"vocab_size": VOCAB, "d_model": width, "max_position_embeddings": LENGTH}
            config |= {"decoder_start_token_id": 0, "activation_function": act, "scale_embedding": yes[0]}
            config |= {
                "share_encoder_decoder_embeddings": yes[1],
                "decoder_vocab_size": VOCAB + 2 * (not yes[1]),
            }
            for side in ("encoder", "decoder"):
                config |= {f"{side}_layers": pick.randint(1, 3), f"{side}_attention_heads": heads}
                config |= {f"{side}_ffn_dim": hidden}
            return Case(family, hf.MarianMTModel, config, frozenset(), "pairs")
    config = {name: value for name, value in body.items() if name != "vocab_size"} | {"layer_norm_eps": eps}
    config |= {"image_size": 8, "patch_size": pick.choice((2, 4, 8)), "num_channels": pick.randint(1, 4)}
    config |= {"qkv_bias": yes[0], "num_labels": pick.randint(2, 9)}
    kinds = (hf.ViTForImageClassification, hf.ViTModel)
    return Case(family, pick.choice(kinds), config, frozenset(), "images")


@pytest.mark.parametrize("seed", range(DRAWS))
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_drawn_configurations_are_theirs(family, seed, tmp_path):
    of = drawn(family, seed)
    theirs = of.build()
    found = read_folder(save(theirs, tmp_path / "theirs"))
    read = inputs(of)
    want = ask_theirs(of, theirs, read)
    tap = Recorder(want.places())
    logits = found.model(*read, tap=tap)
    assert apart(logits, want.logits) <= LARGEST and want.compare(tap.seen, apart) <= LARGEST
    assert kl(logits, want.logits) <= WORST_KL
    save_pretrained(found.model, None, tmp_path / "ours", length=found.length, labels=found.labels)
    before, after = (read_tensors(tmp_path / side / "model.safetensors") for side in ("theirs", "ours"))
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    assert before.keys() - after.keys() <= {"cls.predictions.bias"}


def test_the_draws_differ():
    for family in FAMILIES:
        assert len({str(drawn(family, seed).config) for seed in range(5)}) == 5
        assert drawn(family, 0) == drawn(family, 0)
