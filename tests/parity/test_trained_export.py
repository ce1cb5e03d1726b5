"""A model that has learned, saved: transformers reads the whole validation text with the same loss."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers as hf

import cutaway
from cutaway import spec
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import find_recipe
from tests.parity.test_checkpoints import WORST_KL, kl

SHAKESPEARE = Path(__file__).parents[3] / "shared/data/tinyshakespeare/input.txt"
STEPS, LENGTH, CHUNK = 60, 64, 256
AGREE = {"small": 1e-8, "gpt2": 1e-12}  # in float64; but transformers takes a rotation's angles in fp32
SHAPES = {
    "small": spec.small(layers=2, width=64, heads=4, kv_heads=2, vocab=65),
    "gpt2": spec.gpt2(layers=2, width=64, heads=4, vocab=65, length=LENGTH),
}


@pytest.mark.skipif(not SHAKESPEARE.exists(), reason="needs ../shared/data/tinyshakespeare, which is absent")
@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_learned_opens_in_transformers(shape, tmp_path):
    recipe = read_recipe(find_recipe("shakespeare-small"))
    run = replace(recipe.run, steps=STEPS, evaluate=STEPS, precision="fp32", compile="off", threads=1)
    data = replace(recipe.data, source=(str(SHAKESPEARE),))
    recipe = replace(recipe, name=shape, model=SHAPES[shape], data=data, run=run)
    result = cutaway.train(recipe, out=tmp_path / "run", seed=1)
    ours = cutaway.load(result)
    folder = ours.save_pretrained(tmp_path / "out")
    theirs = hf.AutoModelForCausalLM.from_pretrained(folder).eval().double()
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)

    text = SHAKESPEARE.read_text()
    text = text[int(0.9 * len(text)) :]  # nanoGPT's validation text
    ids = torch.tensor(tokenizer(text)["input_ids"])
    assert tokenizer.decode(ids) == text
    whole = (len(ids) - 1) // LENGTH * LENGTH
    inside, next_to = (part.view(-1, LENGTH).split(CHUNK) for part in (ids[:whole], ids[1 : whole + 1]))
    windows = list(zip(inside, next_to, strict=True))
    windows.append((ids[None, whole:-1], ids[None, whole + 1 :]))
    ours.model.double()
    nats, worst = 0.0, 0.0
    with torch.no_grad():
        for inputs, targets in windows:
            logits = theirs(inputs).logits
            nats += float(F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))
            worst = max(worst, kl(ours.model(inputs), logits))
    loss = nats / (len(ids) - 1)
    assert worst <= WORST_KL
    assert ours.loss(text).nats == pytest.approx(loss, rel=AGREE[shape])
    assert cutaway.load(folder).loss(text).nats == pytest.approx(loss, rel=1e-5), (
        "in float32, from the folder"
    )
    assert result.figures["validation"] == pytest.approx(loss, rel=1e-5), "what the run said of itself"
    assert loss < 2.8, "it has learned: of 65 characters without a clue one costs 4.17"
