# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Masked words
#
# Hide a word of a sentence and ask which it was. That is all that BERT was taught, and from it came vectors
# that know what words mean. On this page you teach a small encoder the same, and look at what it has learned:
# that it reads both sides of a hole, which words it takes for alike, and what that is worth for another task.
#
# As in `one_sentence`, nothing is taken on trust: what is computed is computed again by hand, and what is
# claimed of the model is asserted. Where it is an algorithm of Phuong & Hutter's *Formal Algorithms for
# Transformers* (arXiv 2207.09238), the hand is `cutaway.formal`, which is that paper written as code.

# %%
import copy
import math
import random
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import cutaway as ca
from cutaway import formal, models, spec

plt.rcParams |= {
    "figure.dpi": 100,
    "font.size": 9,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
}

# %% [markdown]
# ## A small world
#
# Of real text one learns in a minute which words are frequent, and not much more. So we take a text of
# which we know everything that can be known: little sentences about animals. Half of the animals are wild
# and half are tame. No sentence says so! But wild ones live in other places than tame ones, eat other
# things, and keep to themselves. And as in English one animal `sleeps`, several `sleep`.

# %%
WILD = ("bear", "badger", "otter", "beaver", "raven", "weasel")
TAME = ("cat", "dog", "cow", "goat", "hen", "pig")
PLACES = {WILD: ("wood", "swamp", "cave", "cliff"), TAME: ("house", "yard", "barn", "garden")}
FOOD = {WILD: ("berries", "roots", "honey", "nuts"), TAME: ("hay", "corn", "bread", "soup")}
LIKE = ("old", "young", "small", "big", "quick", "tired")
SEES, SLEEPS = ("see", "hear", "follow"), ("sleep", "hide", "live")


def somebody(draw, kind, several):
    """An animal, or several, as the beginning or the end of a sentence."""
    like = f" {draw.choice(LIKE)}" if draw.random() < 0.5 else ""
    return f"the{like} {draw.choice(kind)}{'s' if several else ''}"


def sentence(draw):
    """One sentence about the world."""
    kind, several = draw.choice((WILD, TAME)), draw.random() < 0.5
    who, s = somebody(draw, kind, several), "" if several else "s"
    what = (
        f"{draw.choice(SEES)}{s} {somebody(draw, kind, draw.random() < 0.5)}",
        f"{draw.choice(SLEEPS)}{s} in the {draw.choice(PLACES[kind])} and eat{s} {draw.choice(FOOD[kind])}",
        f"find{s} {draw.choice(FOOD[kind])} in the {draw.choice(PLACES[kind])}",
        f"{'are' if several else 'is'} {draw.choice(LIKE)}",
    )
    return f"{who} {draw.choice(what)} ."


draw = random.Random(0)
world = [sentence(draw) for _ in range(12_000)]
print(*world[:8], sep="\n")

# %% [markdown]
# (Not all of it is good English: `the old cow is tired`, but also `the young bear is old`. The world is
# simple.)
#
# ## The objective, by hand
#
# Take a sentence, hide some of its tokens behind a special one, the *mask*, and ask for each hidden token
# what it was. The loss is minus the logarithm of the probability that the right one gets, summed over the
# *hidden* places and no others. That is algorithm 12 of the paper.
#
# First the text. `MaskedText` reads files or folders; of lines that begin with a label (they are used for
# another thing below) it takes each sentence as a text of its own, where the source begins with `labelled:`.
#
# What is trained already is not trained again: if you change something, delete its folder in
# `runs/masked-words`.

# %%
HOME = next((Path(root) / "masked-words" for root in ("runs", "../runs") if Path(root).is_dir()), None)
HOME = HOME or Path("runs/masked-words")
HOME.mkdir(parents=True, exist_ok=True)
(HOME / "world.txt").write_text("".join(f"any {line}\n" for line in world))

encoder = spec.PRESETS["quick"](layers=2, width=64, heads=4, hidden=128)
encoder = replace(encoder, stack=replace(encoder.stack, sees="all"))  # not a decoder: it may look ahead
LENGTH = 16


def trained(name, model, data, start="", **run):
    """A session with this model trained on these data, or found trained already."""
    out = HOME / name
    if not any(out.glob("checkpoints/step-*")):
        made = spec.Run(length=LENGTH, precision="fp32", compile="off", threads=1, **run)
        ca.train(spec.Recipe(name=name, model=model, data=data, run=made, start=start), out=out)
    return ca.load(out)


text = spec.MaskedText(source=(f"labelled:{HOME / 'world.txt'}",), vocab=512, share=0.2)
after = trained("pretrained", encoder, text, steps=800, batch=64)
before = replace(after, model=models.build(after.spec, seed=1).eval())  # the same, and has learned nothing

# %% [markdown]
# Now the loss of one sentence, in three ways: by hand, by the code that trains, and by the paper.

# %%
from cutaway.data.masking import mask_id
from cutaway.train.loss import IGNORE, Batch, scored_token_loss

tokenizer = after.tokenizer
MASK, END, V = mask_id(tokenizer), tokenizer.end, after.spec.input.vocab


def encode(line):
    """The ids of a sentence between the tokens that end a text, as the model reads it."""
    return [END, *(int(token) for token in tokenizer.encode(line)), END]


def shown(token):
    """What to show for a token."""
    return {MASK: "[MASK]", END: "[end]"}.get(int(token), tokenizer.token_name(int(token)).strip())


def numbers(tensor):
    """A tensor of the model as a NumPy array."""
    return tensor.detach().double().numpy()


SENTENCE = "the old bear sleeps in the cave and eats honey ."
x = encode(SENTENCE)
draw_mask = np.random.default_rng(5)
hidden = (draw_mask.random(len(x)) < 0.3) & (np.array(x) != END)
x_masked = [MASK if hides else token for token, hides in zip(x, hidden, strict=True)]
print(*map(shown, x_masked))

exact = copy.deepcopy(after.model).double()
with torch.no_grad():
    P_LV = exact(torch.tensor([x_masked]))[0].softmax(-1).numpy()
by_hand = -sum(math.log(P_LV[t, x[t]]) for t in range(len(x)) if hidden[t])
everywhere = -sum(math.log(P_LV[t, x[t]]) for t in range(len(x)))

asked = torch.tensor([[token if hides else IGNORE for token, hides in zip(x, hidden, strict=True)]])
by_training = scored_token_loss(exact, Batch((torch.tensor([x_masked]),), asked), total=1).item()
print(f"loss of the {hidden.sum()} hidden tokens: {by_hand:.3f} by hand, {by_training:.3f} in training")
assert np.isclose(by_hand, by_training)
assert not np.isclose(everywhere, by_training)

figure, axes = plt.subplots(figsize=(8, 2.4))
chances = [P_LV[t, x[t]] for t in range(len(x))]
axes.bar(range(len(x)), chances, color=["tab:red" if hides else "0.8" for hides in hidden])
axes.set_xticks(
    range(len(x)),
    [f"{shown(m)}\n({shown(t)})" if m == MASK else shown(t) for m, t in zip(x_masked, x, strict=True)],
)
axes.set(title="probability of the right token; only the red ones count", ylim=(0, 1.05))

# %% [markdown]
# The paper's encoder, algorithm 9, is BERT: its norms stand behind the sub-layers, its positions are
# learned. Ours learns faster, but is another function. So for the third way we build the paper's, give its
# weights to `cutaway.formal`, and compare losses. (The paper puts the mask third from the end of the
# vocabulary and we at its end: two tokens change their numbers.)

# %%
norm = spec.LayerNorm(eps=0.0)
layer = spec.Block(spec.Attention(4, bias="qkvo"), spec.MLP(128), norm, order="post")
paper = spec.Single(
    64,
    spec.Tokens(V, spec.Learned(LENGTH)),
    spec.Stack(2, (layer,), "all"),
    spec.NextToken(tied=False, transform=spec.Transform("gelu", norm)),
    spec.Init(0.2, 0.2, "same"),
)
bert = models.build(paper, seed=0).double().eval()


def heads_of(attention):
    """Its heads stand below one another in a matrix; the paper has a matrix for each."""
    parts = [
        np.split(numbers(part), 4)
        for linear in (attention.query, attention.key, attention.value)
        for part in (linear.weight, linear.bias)
    ]
    heads = tuple(formal.AttentionWeights(*head) for head in zip(*parts, strict=True))
    return formal.MultiHeadWeights(heads, numbers(attention.out.weight), numbers(attention.out.bias))


def layer_of(block):
    """A layer as the paper lists it."""
    parts = (block.mixer_norm, block.ffn.up, block.ffn.down, block.ffn_norm)
    return formal.LayerWeights(
        heads_of(block.attn), *(numbers(value) for part in parts for value in (part.weight, part.bias))
    )


swap = np.arange(V)
swap[[MASK, formal.mask_token(V)]] = formal.mask_token(V), MASK
transform = bert.head.transform
theta = formal.ETransformerWeights(
    numbers(bert.input.token.weight)[swap].T,
    numbers(bert.input.position.weight).T,
    tuple(layer_of(block) for block in bert.blocks),
    *(numbers(value) for part in (transform.dense, transform.norm) for value in (part.weight, part.bias)),
    numbers(bert.head.out.weight)[swap],
)
by_paper = formal.ELoss(list(swap[x_masked]), list(swap[x]), theta)
by_ours = scored_token_loss(bert, Batch((torch.tensor([x_masked]),), asked), total=1).item()
print(f"{by_paper:.6f} by algorithm 12, {by_ours:.6f} in training")
assert np.isclose(by_paper, by_ours)

# %% [markdown]
# ## 80, 10, 10
#
# BERT does not always put the mask in. Of the tokens it asks for, one in five here, it masks 80 %, replaces
# 10 % by any other token, and leaves 10 % as they are. Why? When the model is *used*, for instance to sort
# sentences, nothing is masked. A model that was asked about masks alone could do whatever it likes at all
# other places. If it may be asked about a word that stands there in plain sight, and if that word may be
# wrong, every vector must say what belongs at its place.
#
# (*Any* token: many of our vocabulary are single bytes, such as `<f0>`. The algorithm of the paper always
# masks; `rule="literal"` does that.)

# %%
from cutaway.data.masking import Masks, ordinary_ids

masks = Masks("bert", 0.2, MASK, ordinary_ids(tokenizer), seed=0)
many = np.tile(np.array(x), (4000, 1))
read, chosen = masks.hide(many, step=0)
kinds = {
    "masked": chosen & (read == MASK),
    "replaced": chosen & (read != MASK) & (read != many),
    "left": chosen & (read == many),
}
for kind, where in kinds.items():
    print(f"{kind:9} {where.sum() / chosen.sum():.1%} of those that are asked for")
assert all(
    abs(where.sum() / chosen.sum() - share) < 0.03
    for where, share in zip(kinds.values(), (0.8, 0.1, 0.1), strict=True)
)
assert np.array_equal(read[~chosen], many[~chosen]) and not chosen[many == END].any()

others = kinds["replaced"].any(1) | kinds["left"].any(1)
rows = [*np.flatnonzero(others)[:4], 0, 1, 2, 3]
figure, axes = plt.subplots(figsize=(9.5, 2.6))
colours = {"masked": "tab:red", "replaced": "tab:orange", "left": "tab:green"}
for line, row in enumerate(rows):
    for t in range(1, len(x) - 1):
        kind = next((kind for kind, where in kinds.items() if where[row, t]), None)
        weight = "bold" if kind else "normal"
        axes.text(t, line, shown(read[row, t]), color=colours.get(kind, "0.5"), weight=weight, ha="center")
for kind, place in zip(colours, (3, 5.5, 8), strict=True):
    axes.text(place, -1.2, kind, color=colours[kind], weight="bold", ha="center")
axes.set(xlim=(0.4, len(x) - 1.6), ylim=(len(rows) - 0.4, -1.8))
axes.axis("off")

# %% [markdown]
# ## Fill in
#
# What does it say in the holes? `fill` gives the likeliest tokens for each `[MASK]`. Before training it knows
# nothing:

# %%
HOLES = (
    "the cats [MASK] in the barn and eat hay .",
    "the [MASK] sleeps in the swamp and eats roots .",
    "the old cow lives in the [MASK] and eats corn .",
    "the otter finds [MASK] in the wood .",
)
for session, when in ((before, "before"), (after, "after")):
    print(when)
    for hole in HOLES:
        guesses = ", ".join(
            f"{guess.text.strip()} {guess.chance:.0%}" for guess in session.fill(hole, best=5)[0]
        )
        print(f"  {hole:48} {guesses}")


def chances_in(session, hole):
    """The probability of each token in the hole of a text."""
    left, right = (part.removesuffix(" ") for part in hole.split("[MASK]"))
    ids = [*encode(left)[:-1], MASK, *encode(right)[1:]]
    with torch.no_grad():
        return session.model(torch.tensor([ids]))[0, ids.index(MASK)].softmax(-1)


def id_of(word):
    """The token of a word inside a sentence."""
    (token,) = tokenizer.encode(f" {word}")
    return int(token)


def share_of(session, hole, words):
    """The probability that one of these words is in the hole."""
    return chances_in(session, hole)[[id_of(word) for word in words]].sum().item()


one, several = [f"{verb}s" for verb in SLEEPS], list(SLEEPS)
pairs = [
    ("right number", HOLES[0], several),
    ("wild animals", HOLES[1], WILD),
    ("tame places", HOLES[2], PLACES[TAME]),
]
assert np.isclose(after.fill(HOLES[0])[0][0].chance, chances_in(after, HOLES[0]).max().item(), atol=1e-5)
assert share_of(after, HOLES[0], several) > share_of(after, HOLES[0], one) + 0.3
assert share_of(after, HOLES[1], WILD) > share_of(after, HOLES[1], TAME) + 0.2
assert share_of(after, HOLES[2], PLACES[TAME]) > share_of(after, HOLES[2], PLACES[WILD]) + 0.2

figure, axes = plt.subplots(figsize=(9, 2.5))
for offset, (session, when) in zip((-0.2, 0.2), ((before, "before"), (after, "after")), strict=True):
    axes.bar(
        np.arange(3) + offset, [share_of(session, hole, words) for _, hole, words in pairs], 0.4, label=when
    )
axes.set_xticks(range(3), [f"{name}\n{hole.split(' and ')[0]} ..." for name, hole, _ in pairs])
axes.set(title="probability of all words that fit", ylim=(0, 1.05))
axes.legend()

# %% [markdown]
# It has found out that cats `sleep` and do not `sleeps`, and that it is the wild ones who live in a swamp.
# Nobody said which animals are wild. *Which* wild animal it is it cannot know, and so it gives each about a
# sixth.
#
# ## Both sides
#
# A language model that writes sees what stands on the left. Here both sides count, and that can be measured:
# in sentences it never saw, hide in turn all that stands to the right of the hole, and all to the left.

# %%
seen_before = set(world)
fresh_draw = random.Random(1)
fresh = [line for line in (sentence(fresh_draw) for _ in range(4000)) if line not in seen_before][:250]
words = {
    "animal": {f"{name}{s}" for name in WILD + TAME for s in ("", "s")},
    "verb": {f"{verb}{s}" for verb in (*SEES, *SLEEPS, "eat", "find") for s in ("", "s")} | {"is", "are"},
    "place": {place for places in PLACES.values() for place in places},
    "food": {food for foods in FOOD.values() for food in foods},
}
views = ("both sides", "left side only", "right side only")
found = {kind: [] for kind in words}
with torch.no_grad():
    for line in fresh:
        ids = torch.tensor(encode(line))
        for t in range(1, len(ids) - 1):
            kind = next((kind for kind, some in words.items() if shown(ids[t]) in some), None)
            if kind is None:
                continue
            rows = ids.repeat(3, 1)
            rows[:, t] = rows[1, t + 1 : -1] = rows[2, 1:t] = MASK
            found[kind].append(after.model(rows)[:, t].softmax(-1)[:, ids[t]].numpy())
means = {kind: np.mean(chances, axis=0) for kind, chances in found.items()}
overall = np.concatenate(list(found.values())).mean(0)
print(
    {view: f"{mean:.1%}" for view, mean in zip(views, overall, strict=True)},
    "of",
    len(fresh),
    "new sentences",
)
assert overall[0] > overall[1] + 0.02 and overall[0] > overall[2] + 0.02

figure, axes = plt.subplots(figsize=(7, 2.6))
for number, view in enumerate(views):
    shares = [means[kind][number] for kind in words]
    axes.bar(np.arange(len(words)) + 0.27 * (number - 1), shares, 0.27, label=view)
axes.set_xticks(range(len(words)), [f"{kind} ({len(found[kind])})" for kind in words])
axes.set(title="mean probability of the word that was hidden")
axes.legend(ncols=3, loc="upper center")
axes.set_ylim(0, 1.35 * max(mean.max() for mean in means.values()))

# %% [markdown]
# A verb needs both: its number stands on the left, and what kind of verb it is on the right. An animal at the
# beginning has little on its left to be known by.
#
# Attention shows the same. In a causal model no place looks to the right, the mask forbids it. Here about
# half of the attention does. The same weights with `sees="past"` are the control.

# %%
causal = copy.deepcopy(after.model)
causal.sees = "past"
HOLE = "the cats [MASK] in the barn and eat hay ."
left, right = HOLE.split(" [MASK]")
ids = [*encode(left)[:-1], MASK, *encode(right)[1:]]
labels = [shown(token) for token in ids]
looks = {
    name: np.concatenate(
        [numbers(value[0]) for value in ca.study.trace(model, ids, keep="blocks.*.attn.pattern").values()]
    )
    for name, model in (("sees all", after.model), ("sees the past", causal))
}
to_the_right = {name: np.triu(pattern_HLL, 1).sum((1, 2)) / len(ids) for name, pattern_HLL in looks.items()}
for name, shares in to_the_right.items():
    print(f"{name:14} share of attention that goes to the right, head by head:", shares.round(2))
assert np.all(to_the_right["sees the past"] == 0)
assert to_the_right["sees all"].mean() > 0.1

figure, panels = plt.subplots(2, 4, figsize=(10, 5.6), sharex=True, sharey=True)
for number, (axes, pattern_LL) in enumerate(zip(panels.flat, looks["sees all"], strict=True)):
    axes.imshow(pattern_LL, cmap="Blues", vmin=0, vmax=1)
    axes.plot([-0.5, len(ids) - 0.5], [-0.5, len(ids) - 0.5], color="0.7", linewidth=0.8)
    ahead = to_the_right["sees all"][number]
    axes.set_title(f"layer {number // 4}, head {number % 4}: {ahead:.0%}")
    axes.set_xticks(range(len(ids)), labels, rotation=90)
    axes.set_yticks(range(len(ids)), labels)
panels[0, 0].set_ylabel("this token looks ...")
panels[1, 0].set_xlabel("... at this one")
figure.suptitle("where each head looks, and how much of that is to the right")

# %% [markdown]
# Everything above the grey line looks ahead. See the row `[MASK]`: where does it look?
#
# ## What the vectors know
#
# Every word has a vector, the row of the embedding that the model begins with. Nothing told the model which
# words are alike. But words that fit into the same holes are pulled the same way. So: whose vector is nearest
# to a word's own, and is it a word of the same sort?

# %%
sorts = {
    "wild": WILD,
    "tame": TAME,
    "several wild": [f"{name}s" for name in WILD],
    "several tame": [f"{name}s" for name in TAME],
    "wild places": PLACES[WILD],
    "tame places": PLACES[TAME],
    "wild food": FOOD[WILD],
    "tame food": FOOD[TAME],
    "what they are like": LIKE,
}
named = [(word, sort) for sort, some in sorts.items() for word in some]


def likeness(session):
    """The cosine between the vectors of each two words, and those vectors."""
    vectors = numbers(session.model.input.token.weight)[[id_of(word) for word, _ in named]]
    vectors = vectors - vectors.mean(0)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T, vectors


right = {}
for session, when in ((before, "before"), (after, "after")):
    cosines, _ = likeness(session)
    np.fill_diagonal(cosines, -np.inf)
    nearest = cosines.argmax(1)
    right[when] = np.mean([sort == named[near][1] for (_, sort), near in zip(named, nearest, strict=True)])
    some = [f"{word}: {named[near][0]}" for (word, _), near in zip(named, nearest, strict=True)][::6]
    print(f"{when:7} nearest of the same sort {right[when]:.0%};", ", ".join(some))
assert right["after"] > right["before"] + 0.3

figure, panels = plt.subplots(1, 2, figsize=(10, 4.4))
for axes, (session, when) in zip(panels, ((before, "before"), (after, "after")), strict=True):
    cosines, vectors = likeness(session)
    axes.imshow(cosines, cmap="RdBu_r", vmin=-1, vmax=1)
    edges = np.cumsum([0, *map(len, sorts.values())])
    middles = (edges[:-1] + edges[1:] - 1) / 2
    axes.set_xticks([])
    axes.set_yticks(middles, list(sorts) if when == "before" else [])
    for edge in edges[1:-1]:
        axes.axhline(edge - 0.5, color="0.4", linewidth=0.5)
        axes.axvline(edge - 0.5, color="0.4", linewidth=0.5)
    axes.set_title(f"{when}: how alike each two words are")

# %% [markdown]
# ## What it is worth: fine-tuning
#
# Now a task with labels, and very few of them: is the animal in this sentence `wild` or `tame`? The
# sentences do not tell (`the old bear is tired`), and only *three* animals of each kind are in the training
# data. The test is about the *other* six. Who has only the labels cannot know. Who has read about the world
# might.
#
# `Recipe.start` begins with the tokenizer and the weights of another run, all but the head. The control
# begins with a run of a single step that went nowhere: the same tokens, and nothing learned.


# %%
def labelled(kinds, count, draw):
    """Lines of a label and a sentence that does not say which kind of animal it is about."""
    lines = []
    for _ in range(count):
        label, several = draw.choice(("wild", "tame")), draw.random() < 0.5
        who = somebody(draw, kinds[label], several)
        lines.append(f"{label} {who} {'are' if several else 'is'} {draw.choice(LIKE)} .\n")
    return "".join(lines)


known, others = {"wild": WILD[:3], "tame": TAME[:3]}, {"wild": WILD[3:], "tame": TAME[3:]}
label_draw = random.Random(2)
for part, kinds, count in (("train", known, 80), ("validation", known, 40), ("test", others, 200)):
    (HOME / f"{part}.txt").write_text(labelled(kinds, count, label_draw))
task = spec.Labelled(str(HOME), "train.txt", "test.txt", "validation.txt", vocab=512)
sorter = replace(encoder, head=spec.Classify(2, pool="mean"))
settings = {"steps": 60, "batch": 16, "optimizer": spec.AdamW(rate=1e-3, decay=0.0)}
tuned = trained("tuned", sorter, task, start=str(HOME / "pretrained"), **settings)
still = {"steps": 1, "batch": 64, "optimizer": spec.AdamW(rate=1e-12, decay=0.0)}
trained("learned-nothing", encoder, text, **still)
scratch = trained("from-scratch", sorter, task, start=str(HOME / "learned-nothing"), **settings)


def accuracy(session, part):
    """The share of a file's sentences that are sorted rightly."""
    lines = [line.split(" ", 1) for line in (HOME / f"{part}.txt").read_text().splitlines()]
    told = session.classify([sentence for _, sentence in lines])
    return np.mean(
        [max(chances, key=chances.get) == label for (label, _), chances in zip(lines, told, strict=True)]
    )


reached = {
    name: [accuracy(session, part) for part in ("validation", "test")]
    for name, session in (("fine-tuned", tuned), ("from scratch", scratch))
}
for name, (same, other) in reached.items():
    print(f"{name:13} {same:.0%} on the animals of the labels, {other:.0%} on those without a label")
assert reached["fine-tuned"][1] > 0.7 and reached["fine-tuned"][1] > reached["from scratch"][1] + 0.1

figure, axes = plt.subplots(figsize=(6, 2.6))
for offset, (name, shares) in zip((-0.2, 0.2), reached.items(), strict=True):
    axes.bar(np.arange(2) + offset, shares, 0.4, label=name)
axes.axhline(0.5, color="0.4", linestyle="--", linewidth=1)
axes.set_xticks(range(2), ["animals of the labels", "animals without a label"])
axes.set(title="sorted rightly (dashed: by a coin)", ylim=(0, 1.3))
axes.legend(ncols=2)

# %% [markdown]
# Both learn their labels. From scratch the model knows six words and nothing else; what it says of others is
# accident. The other one has learned from six animals *which direction in its vectors was meant*, and that
# direction holds all of them. This is why one trains on much text without labels first.
#
# ## Where to go from here
#
# * Real text is one line away: `spec.MaskedText(source=("stdlib:",))`, and half an hour instead of a minute.
#   `recipes/bert-small` does that, and fine-tunes it on sentences of films and on questions.
# * Train with `rule="literal"` and look at the vectors again. Or let `share` grow: where does it stop to
#   learn?
# * `notebooks/recurrence_to_attention.py` shows where attention came from, `one_sentence.py` every tensor.
