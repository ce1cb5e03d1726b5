"""What each part is good for, and what each layer would say: against one full pass a part."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway import models, spec
from cutaway.errors import ConfigError, LimitError
from cutaway.study import ablate, edit, lens, skip, switch_off, trace, unembed
from cutaway.study import effects as study_effects
from tests.unit.tiny import plan, reads, redrawn, tiny


def one(preset: str) -> tuple[Tensor, ...]:
    return tuple(side[:1] for side in reads(plan(preset)))


def given(inputs: tuple[Tensor, ...]) -> object:
    return inputs if len(inputs) > 1 else inputs[0]


def sandwich() -> models.Single:
    block = spec.Block(spec.Attention(4), spec.GatedMLP(24), spec.RMSNorm(), order="sandwich")
    stack = spec.Stack(3, (block,), "past", bias=spec.ALiBi(), final_norm=spec.RMSNorm(), distinct=1)
    head = spec.NextToken(bias=True, cap=3.0)
    return redrawn(models.build(spec.Single(16, spec.Tokens(11), stack, head)))


@pytest.mark.parametrize("at_once", [4096, 20])
@pytest.mark.parametrize("preset", ["gpt2", "small", "t5", "vaswani", "sandwich"])
def test_every_part_off_is_the_full_pass_with_that_edit(preset, at_once, monkeypatch):
    monkeypatch.setattr(study_effects, "TOKENS_AT_ONCE", at_once)
    model, inputs = (sandwich(), one("gpt2")) if preset == "sandwich" else (tiny(preset), one(preset))
    found = switch_off(model, given(inputs), best=3)
    moved = 0
    for row, part in enumerate(found.parts):
        heads = None if part.head is None else [part.head]
        change = skip(part.name.removesuffix(".out")) if part.kind == "layer" else {part.name: ablate(heads)}
        with torch.no_grad(), edit(model, change):
            logits_LV = model(*inputs)[0]
        nats = F.cross_entropy(logits_LV[:-1], inputs[-1][0, 1:], reduction="none")
        torch.testing.assert_close(found.surprise_after_EL[row], nats, rtol=0, atol=1e-9)
        assert found.loss_after[row].item() == pytest.approx(nats.mean().item(), abs=1e-9)
        best = logits_LV[-1].softmax(-1).topk(3)
        assert torch.equal(found.tokens_after[row], best.indices)
        torch.testing.assert_close(found.chances_after[row], best.values, rtol=0, atol=1e-9)
        moved += int((nats - found.surprise_before_L).abs().max() > 1e-6)
    assert moved == len(found.parts)
    plain = F.cross_entropy(model(*inputs)[0, :-1], inputs[-1][0, 1:])
    assert found.loss_before == pytest.approx(plain.item(), abs=1e-9)


def test_the_parts_are_all_heads_attentions_feed_forwards_and_layers():
    parts = switch_off(tiny("gpt2"), one("gpt2")[0]).parts
    kinds = [(part.kind, part.depth, part.head) for part in parts]
    assert kinds == [
        row
        for depth in (0, 1)
        for row in [
            *(("attn", depth, head) for head in range(4)),
            ("attn", depth, None),
            ("ffn", depth, None),
            ("layer", depth, None),
        ]
    ]
    pair = switch_off(tiny("t5"), one("t5")).parts
    assert {part.side for part in pair} == {"encoder.", "decoder."}
    assert sum(part.kind == "cross" for part in pair) == 2 * 5


def test_what_has_no_next_token_is_refused():
    for preset in ("bert", "vit"):
        with pytest.raises(ConfigError, match="predicts the next token"):
            switch_off(tiny(preset), one(preset)[0])
    with pytest.raises(LimitError, match="one text of at least two tokens"):
        switch_off(tiny("gpt2"), [1])
    with pytest.raises(LimitError, match="one text"):
        switch_off(tiny("gpt2"), [[1, 2], [3, 4]])


@pytest.mark.parametrize("preset", ["gpt2", "small", "bert", "t5", "vaswani"])
@torch.no_grad()
def test_the_lens_ends_with_the_model_itself(preset):
    model, inputs = tiny(preset), reads(plan(preset))
    found = lens(model, given(inputs), best=4)
    logits = model(*inputs)
    best = logits.softmax(-1).topk(4)
    assert torch.equal(found.tokens_NBLE[-1], best.indices)
    torch.testing.assert_close(found.chances_NBLE[-1], best.values, rtol=0, atol=1e-10)
    came, asked = (inputs[-1], logits) if preset == "bert" else (inputs[-1][:, 1:], logits[:, :-1])
    nats = F.cross_entropy(asked.transpose(1, 2), came, reduction="none")
    torch.testing.assert_close(found.surprise[-1], nats, rtol=0, atol=1e-10)
    assert len(found.names) == 3 and found.names[0].endswith("blocks.0.in")
    for depth, name in enumerate(found.names):
        row = trace(model, given(inputs), keep=name)[name]
        want = unembed(model, row).softmax(-1).topk(4)
        assert torch.equal(found.tokens_NBLE[depth], want.indices)
    assert not torch.equal(found.chances_NBLE[0], found.chances_NBLE[1])


def test_a_classifier_has_no_lens():
    with pytest.raises(ConfigError, match="needs a head over a vocabulary"):
        lens(tiny("vit"), one("vit")[0])
