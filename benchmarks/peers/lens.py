"""TransformerLens: its bridge around a Hugging Face GPT-2 with random weights, made by `boot_transformers`.

It runs Hugging Face's attention in the open ("eager"), which is what lets it hook scores and patterns.
"""

import tempfile
from collections.abc import Callable

import torch
from tokenizers import Tokenizer, models
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from benchmarks.peers.huggingface import build
from benchmarks.shape import Shape, batches


def bridge(shape: Shape, precision: str) -> TransformerBridge:
    """The bridge asks for a tokenizer that has a folder; ours has two words and is not used."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    model = build(shape).eval().to(kind)
    model.set_attn_implementation("eager")
    with tempfile.TemporaryDirectory() as folder:
        words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
        ends = dict(bos_token="b", eos_token="b", pad_token="b", unk_token="a")
        PreTrainedTokenizerFast(tokenizer_object=words, **ends).save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return TransformerBridge.boot_transformers(
            folder, hf_model=model, tokenizer=tokenizer, dtype=kind, device="cpu"
        )


def forward_pass(shape: dict, precision: str, record: str) -> Callable[[], int]:
    """`record`: nothing (a plain call), all but scores and pattern, or every site (`run_with_cache`).

    Returns how many tensors were kept, each under one name or several.
    """
    sizes = Shape(**shape)
    model = bridge(sizes, precision)
    rows = torch.tensor(batches(sizes, 1)[0])[:, :-1].contiguous()

    def wanted(name: str) -> bool:
        return record == "every site" or not name.endswith(("hook_attn_scores", "hook_pattern"))

    def plain() -> int:
        with torch.inference_mode():
            model(rows)
        return 0

    def cached() -> int:
        with torch.inference_mode():
            _, cache = model.run_with_cache(rows, names_filter=wanted)
        return len({tensor.data_ptr() for tensor in cache.values()})

    return plain if record == "nothing" else cached
