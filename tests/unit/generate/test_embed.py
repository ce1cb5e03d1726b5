"""Texts as vectors, held against the model's own features, one text at a time."""

import pytest
import tokenizers
import torch
from tokenizers import models, pre_tokenizers, processors

from cutaway import spec
from cutaway.data.begin import template_ids
from cutaway.data.tokenizer import Tokenizer, byte_tokenizer, character_tokenizer
from cutaway.errors import ConfigError, LimitError
from cutaway.generate.embed import embed
from cutaway.models import Single, build
from tests.unit.tiny import redrawn

TEXTS = ["a cat", "", "the quick brown fox jumps over the lazy dog", "a dog", "cat cat cat"]


def words() -> Tokenizer:
    """A tokenizer of words with BERT's template."""
    names = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *sorted({word for text in TEXTS for word in text.split()})]
    inner = tokenizers.Tokenizer(
        models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]")
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.add_special_tokens(names[:4])
    inner.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return Tokenizer(inner, "[SEP]", pad="[PAD]", unknown="[UNK]", begin="[CLS]")


def encoder(vocab: int, head: spec.Head | None = None) -> Single:
    plan = spec.bert(2, 16, 4, vocab, length=32)
    plan = spec.Single(plan.width, plan.input, plan.stack, head or spec.Vectors())
    made = redrawn(build(plan))
    assert isinstance(made, Single)
    return made


@pytest.mark.parametrize("pool", ["mean", "cls"])
@torch.no_grad()
def test_each_text_as_if_it_were_alone(pool):
    tokenizer = words()
    model = encoder(tokenizer.vocab)
    found = embed(model, tokenizer, TEXTS, pool=pool, normalise=False)
    assert found.shape == (len(TEXTS), 16)
    for text, vector in zip(TEXTS, found, strict=True):
        ids = tokenizer.inner.encode(text).ids
        assert ids[0] == 1 and ids[-1] == 2 and len(ids) == 2 + len(text.split())
        x_LD = model.features(torch.tensor([ids]))[0]
        want = x_LD.mean(0) if pool == "mean" else x_LD[0]
        assert (vector - want.float()).abs().max() < 1e-6
    assert (found[0] - found[3]).abs().max() > 1e-3
    unit = embed(model, tokenizer, TEXTS, pool=pool)
    assert torch.allclose(unit.norm(dim=-1), torch.ones(len(TEXTS)))
    assert torch.allclose(unit, found / found.norm(dim=-1, keepdim=True), atol=1e-6)


def test_the_template_stays_whole_where_a_text_is_cut():
    tokenizer = words()
    whole = template_ids(tokenizer, TEXTS[2]).tolist()
    assert whole[0] == 1 and whole[-1] == 2 and len(whole) == 11
    assert template_ids(tokenizer, TEXTS[2], 5).tolist() == [*whole[:4], 2]
    assert template_ids(tokenizer, TEXTS[0], 5).tolist() == template_ids(tokenizer, TEXTS[0]).tolist()
    with pytest.raises(LimitError, match="no room"):
        template_ids(tokenizer, TEXTS[2], 2)
    assert template_ids(byte_tokenizer(), "ab").tolist() == [256, 97, 98, 256]
    assert template_ids(character_tokenizer("abc"), "ab").tolist() == [0, 1]


def test_what_embeds_no_text_is_refused():
    tokenizer = words()
    model = encoder(tokenizer.vocab)
    with pytest.raises(ConfigError, match="pool 'max'"):
        embed(model, tokenizer, TEXTS, pool="max")
    with pytest.raises(ConfigError, match="reads text"):
        embed(redrawn(build(spec.t5(1, 16, 2, 24, tokenizer.vocab))), tokenizer, TEXTS)
    with pytest.raises(LimitError, match="text 1 has no token"):
        embed(encoder(3), character_tokenizer("abc"), ["a", ""])
    assert embed(model, tokenizer, []).shape == (0, 16)


def test_a_decoder_and_a_classifier_embed_too():
    for head in (spec.Classify(3), spec.NextToken()):
        assert embed(encoder(257, head), byte_tokenizer(), ["ab"]).shape == (1, 16)
    decoder = redrawn(build(spec.small(1, 16, 2, vocab=257)))
    assert embed(decoder, byte_tokenizer(), ["ab", "c"]).shape == (2, 16)
