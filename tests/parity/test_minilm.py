"""The real MiniLM: its sentence vectors are those of transformers, before and after it was saved by us.

It is not committed: `tests.real_models` says where it is.
"""

import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers as hf

import cutaway
from cutaway import spec
from tests import real_models

TEXT = "a train leaves at noon over the old bridge; who, if not 3 naïve owls, saw Zürich's 日本 garden? 🙂"
WORDS = TEXT.split()


@pytest.fixture(scope="module")
def folder() -> Path:
    return real_models.minilm()


def sentences(count: int) -> list[str]:
    drawn = random.Random(0)
    return [" ".join(drawn.choices(WORDS, k=drawn.randint(1, 30))) for _ in range(count)]


@torch.no_grad()
def theirs(folder: Path, texts: list[str], pool: str) -> torch.Tensor:
    """Mean-pooled and normalised, as sentence-transformers does it."""
    tokenizer, model = hf.AutoTokenizer.from_pretrained(folder), hf.AutoModel.from_pretrained(folder).eval()
    read = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    states, real = model(**read).last_hidden_state, read["attention_mask"][..., None].float()
    found = (states * real).sum(1) / real.sum(1) if pool == "mean" else states[:, 0]
    return F.normalize(found, dim=-1)


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_sentence_vectors_are_theirs(folder, pool):
    session, texts = cutaway.load(folder), sentences(200 if pool == "mean" else 20)
    assert session.spec.head == spec.Vectors(spec.Pooler()) and session.length == 256
    found = session.embed(texts, pool=pool)
    assert (found - theirs(folder, texts, pool)).abs().max() <= 1e-5
    assert (found[0] - found[1]).abs().max() > 1e-2
    assert torch.allclose(session.embed(texts[0], pool=pool), found[0], atol=1e-6)


def test_saved_by_us_it_says_the_same(folder, tmp_path):
    saved = cutaway.load(folder).save_pretrained(tmp_path / "out")
    texts = sentences(8)
    assert torch.equal(theirs(saved, texts, "mean"), theirs(folder, texts, "mean"))


def test_a_long_text_counts_to_its_length(folder):
    session = cutaway.load(folder)
    long = " ".join(WORDS * 60)
    assert (session.embed([long]) - theirs(folder, [long], "mean")).abs().max() <= 1e-5
