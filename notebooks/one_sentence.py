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
# # One sentence through every tensor
#
# A language model reads some text and says which piece of text is likely to come next. Here you follow one
# short text through the model you have just trained: from bytes to the last probability, past every number
# in between.
#
# Nothing is taken on trust. Each step is done three times: in words, by the model, and by a few lines of
# NumPy. Where the step is one of the algorithms of Phuong & Hutter's paper *Formal Algorithms for
# Transformers* (arXiv 2207.09238), the NumPy is `cutaway.formal`, which is that paper written as code. An
# `assert` says that all agree. If one of them were wrong, this page would not run.
#
# You need Python, and what a matrix product is. Run the cells from top to bottom; change things; run again.

# %%
import copy
import math
import os
import sysconfig
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import cutaway as ca
from cutaway import formal, spec

# %% [markdown]
# ## The model
#
# If you ran `make demo`, its model is in `runs/demo` and is used here. Otherwise the next cell trains a
# smaller one on a corner of Python's own library, in about a minute, and keeps it in `runs/one-sentence`.
# `STEPS` says for how long: more steps, better predictions.

# %%
STEPS = int(os.environ.get("CUTAWAY_NOTEBOOK_STEPS", 200))

places = [Path(root) / name for root in ("runs", "../runs") for name in ("demo", "one-sentence")]
trained = next((place for place in places if any(place.glob("checkpoints/step-*"))), None)
if trained is None:
    library = Path(sysconfig.get_path("stdlib"))
    recipe = spec.Recipe(
        name="one-sentence",
        model=spec.PRESETS["quick"](layers=4, width=128, heads=4, vocab=1024),
        data=spec.Text(
            source=tuple(str(library / folder) for folder in ("asyncio", "email", "http")), vocab=1024
        ),
        run=spec.Run(
            steps=STEPS,
            batch=16,
            length=128,
            precision="fp32",
            compile="off",
            threads=torch.get_num_threads(),
        ),
    )
    trained = ca.train(recipe).out

session = ca.load(trained)
print(trained)

# %% [markdown]
# Two small changes make the checks below sharp. The model computes with 16 digits where it usually has 7.
# And its norms leave out the tiny number they add so as never to divide by zero, which the paper's norm does
# not have either. What it says stays the same, nearly.

# %%
model = copy.deepcopy(session.model).double()
for module in model.modules():
    if hasattr(module, "eps"):
        module.eps = 0.0
exact = replace(session, model=model)

SENTENCE = "if name is not None and value is not"
before, after = session.loss(SENTENCE).nats, exact.loss(SENTENCE).nats
print(f"how surprised it is by the sentence: {before:.4f} before, {after:.4f} now")
assert abs(before - after) < 0.05

# %% [markdown]
# Some help with the pictures comes next; it has nothing to do with transformers. In the pictures darker is
# more. Where numbers have signs, red is above zero and blue below; grey is nothing at all.

# %%
plt.rcParams |= {
    "figure.dpi": 100,
    "font.size": 9,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
}


def draw_grid(axes, values, rows, columns, title="", signed=False, form=None):
    """A matrix as coloured squares: blue is much; with signs, red is above zero and blue below."""
    finite = np.abs(values[np.isfinite(values)]).max()
    least, most, colours = (-finite, finite, "RdBu_r") if signed else (0, finite, "Blues")
    colours = plt.get_cmap(colours).with_extremes(bad="0.85")
    axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=least, vmax=most, aspect="auto")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.tick_params(length=0, pad=5)
    axes.set_title(title)
    if form:
        write_into(axes, np.vectorize(form.format)(values), values / finite)


def write_into(axes, words, darkness, size=7):
    """A word into each square, white where the square is dark."""
    for (r, c), word in np.ndenumerate(words):
        colour = "white" if abs(darkness[r, c]) > 0.6 else "0.1"
        axes.text(c, r, word, ha="center", va="center", fontsize=size, color=colour)


def numbers(tensor):
    """A tensor of the model as a NumPy array."""
    return tensor.detach().numpy()


# %% [markdown]
# ## Text becomes numbers
#
# A text is a row of bytes. Most letters of English are one byte, others are several.

# %%
print(list(SENTENCE.encode()))
print("é is", list("é".encode()))

# %% [markdown]
# Bytes are many and say little one by one. So a *tokenizer* joins bytes that often stand together into one
# *token*, and gives each token a number. Which ones, it learned from the training text: the pairs that were
# most frequent, then pairs of those, and so on.
#
# A space usually belongs to the word behind it. In the pictures it is shown as `·`.

# %%
ids = [int(token) for token in exact.tokenizer.encode(SENTENCE)]


def shown(token):
    """What to show for a token: spaces and ends of line must be visible."""
    return exact.tokenizer.token_name(int(token)).replace(" ", "·").replace("\n", "\\n")


labels = [shown(token) for token in ids]
for token, label in zip(ids, labels, strict=True):
    print(f"{token:5}  {label:10} {list(exact.tokenizer.token_bytes(token))}")
assert b"".join(exact.tokenizer.token_bytes(token) for token in ids) == SENTENCE.encode()

# %% [markdown]
# From here on the model sees the numbers only. It does not know how `·name` is spelled.
#
# ## The sizes
#
# Cutaway writes a tensor's axes into its name, one letter each. These are the letters, and what they are in
# this model:

# %%
plan = exact.spec
block = model.blocks[0]
L = len(ids)
D, V = plan.width, plan.input.vocab
N, H = plan.stack.layers, block.attn.heads
K, F = block.attn.head_width, plan.stack.blocks[0].ffn.hidden
for letter, size, meaning in (
    ("L", L, "tokens of the sentence"),
    ("D", D, "width: numbers the model keeps for each token"),
    ("N", N, "layers"),
    ("H", H, "attention heads in a layer"),
    ("K", K, "width of a head"),
    ("F", F, "hidden units of a feed-forward"),
    ("V", V, "tokens the tokenizer knows"),
):
    print(f"{letter} = {size:5}  {meaning}")
assert H * K == D

# %% [markdown]
# Only `L` depends on the sentence. The others were fixed before training, and with them the shapes of all
# weights.
#
# Now let the model read the sentence, and keep every tensor on its way. `trace` runs it once, at full speed,
# and hands back what it saw at each *tap*. (The model could read several texts at once; we have one, and drop
# that axis.)

# %%
trace = ca.study.trace(exact, SENTENCE)
seen = {name: numbers(tensor[0]) for name, tensor in trace.items()}
for name, value in seen.items():
    if not name.startswith("blocks.") or name.startswith("blocks.0."):
        print(f"{name:32} {value.shape}")
print(f"... and the same for blocks 1 to {N - 1}: {len(seen)} tensors in all")

# %% [markdown]
# That list is the whole model. The rest of this page explains it line by line.
#
# ## A token becomes a vector
#
# The model has a table with a row of `D` numbers for each token. Its first act is to look up the rows. That
# is algorithm 1 of the paper.
#
# The paper writes a token as a *column*, Cutaway as a *row*: its matrices are ours transposed. Hence a `.T`
# now and then.

# %%
W_e = numbers(model.input.token.weight).T  # (D, V): a column for each token, as in the paper
x_LD = np.stack([formal.token_embedding(token, W_e) for token in ids])
assert np.allclose(x_LD, seen["input.token"])

figure, axes = plt.subplots(figsize=(8, 2.6))
draw_grid(axes, x_LD[:, :64], labels, [], "each token's vector (its first 64 numbers)", signed=True)

# %% [markdown]
# `·is` stands twice in the sentence, and both rows are equal: so far a token has no neighbours and no place.
# Everything that follows is there to change that.

# %%
first, second = (i for i, label in enumerate(labels) if label == "·is")
assert np.array_equal(x_LD[first], x_LD[second])
assert not np.allclose(seen["blocks.0.out"][first], seen["blocks.0.out"][second])  # one layer later

# %% [markdown]
# The paper would now add a vector for each *position* (algorithm 2). This model tells positions otherwise, by
# rotation; we come to it.
#
# ## A layer: the norm
#
# The vectors enter the first of the layers, called *blocks*. A block does two things. First *attention*: each
# token collects something from the tokens before it. Then a *feed-forward*: each token works on its own
# vector alone.
#
# In front of both stands a norm. It brings every vector to the same length, so that what follows sees
# directions and need not cope with sizes. Algorithm 6 of the paper is layer norm; this model uses its shorter
# sister RMSnorm, which is in the paper too: divide by the root of the mean square, multiply by a learned
# gain.

# %%
gamma = numbers(block.mixer_norm.weight)
normed_LD = np.stack([formal.RMSnorm(x_D, gamma) for x_D in x_LD])
assert np.allclose(normed_LD, seen["blocks.0.mixer_norm.out"])

lengths = np.linalg.norm(x_LD, axis=1), np.linalg.norm(normed_LD / gamma, axis=1)
print("length before:", lengths[0].round(2))
print("length after: ", lengths[1].round(2), "= the root of D")
assert np.allclose(lengths[1], math.sqrt(D))

# %% [markdown]
# ## Attention: queries, keys, values
#
# Attention is a soft look-up. Out of its vector each token makes three others:
#
# * a *query*: what am I looking for?
# * a *key*: what do I have to offer?
# * a *value*: what do I hand over to those who choose me?
#
# Three learned matrices make them. The result is then cut into `H` pieces of `K` numbers: the *heads*, which
# from here on work side by side, each on its own piece.


# %%
def cut_into_heads(y_LD):
    """(L, D) -> (H, L, K): head 0 gets the first K numbers of every token, head 1 the next K, ..."""
    return y_LD.reshape(L, H, K).transpose(1, 0, 2)


W_q, W_k, W_v, W_o = (
    numbers(part.weight) for part in (block.attn.query, block.attn.key, block.attn.value, block.attn.out)
)
q_HLK, k_HLK, v_HLK = (cut_into_heads(normed_LD @ W.T) for W in (W_q, W_k, W_v))
assert np.allclose(q_HLK, seen["blocks.0.attn.q"])
assert np.allclose(k_HLK, seen["blocks.0.attn.k"])
assert np.allclose(v_HLK, seen["blocks.0.attn.v"])
print("W_q is", W_q.shape, "and q is", q_HLK.shape)

# %% [markdown]
# Now something newer than the paper: each query and each key goes through a norm of its own (*QK-norm*), so
# that no query can shout. It is the RMSnorm from above, over the `K` numbers of one head.


# %%
def normalise(y_HLK, norm):
    """RMSnorm over the last axis."""
    return np.apply_along_axis(formal.RMSnorm, -1, y_HLK, numbers(norm.weight))


q_HLK, k_HLK = normalise(q_HLK, block.attn.query_norm), normalise(k_HLK, block.attn.key_norm)
assert np.allclose(q_HLK, seen["blocks.0.attn.q_normed"])
assert np.allclose(k_HLK, seen["blocks.0.attn.k_normed"])

# %% [markdown]
# ## Where am I? Rotation
#
# Nothing so far depends on the order of the words. This model brings order in here, again in a way younger
# than the paper (*rotary positions*, Su et al. 2021): take the numbers of a query or key in pairs, think of
# each pair as a point in the plane, and turn it about the origin by an angle that grows with the position.
# The first pair turns fast, each later one more slowly, like the hands of a clock.


# %%
def rotate(y_LK, positions):
    """Turn pair i (numbers i and i + K/2) at position t by the angle t / theta^(2i / K)."""
    pairs = np.arange(K // 2)
    angle = np.asarray(positions)[:, None] / block.attn.rotary.theta ** (2 * pairs / K)
    a, b = y_LK[:, : K // 2], y_LK[:, K // 2 :]
    return np.concatenate(
        [a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], axis=1
    )


positions = range(L)
q_HLK, k_HLK = (np.stack([rotate(y_LK, positions) for y_LK in y_HLK]) for y_HLK in (q_HLK, k_HLK))
assert np.allclose(q_HLK, seen["blocks.0.attn.q_rotated"])
assert np.allclose(k_HLK, seen["blocks.0.attn.k_rotated"])

figure, panels = plt.subplots(1, 3, figsize=(8, 2.9))
for axes, pair in zip(panels, (0, K // 16, K // 8), strict=True):
    arrow = np.zeros((12, K))
    arrow[:, pair] = 1  # the same arrow at 12 positions
    turned = rotate(arrow, range(12))
    for t in range(12):
        shade = plt.get_cmap("viridis")(t / 11)
        axes.plot([0, turned[t, pair]], [0, turned[t, pair + K // 2]], color=shade)
        axes.text(
            1.15 * turned[t, pair], 1.15 * turned[t, pair + K // 2], t, ha="center", va="center", fontsize=7
        )
    axes.set(title=f"pair {pair} at positions 0 to 11", xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal")
    axes.set_xticks([])
    axes.set_yticks([])

# %% [markdown]
# Why turn? Because what counts next is the product of a query with a key, and if both are turned, only the
# *difference* of their angles is left in it. So the model learns "two tokens back" once, and it holds
# everywhere in a text.

# %%
query, key = np.random.default_rng(0).normal(size=(2, 1, K))
for here, there in ((3, 1), (10, 8), (102, 100), (102, 99)):
    product = (rotate(query, [here]) @ rotate(key, [there]).T).item()
    print(f"query at {here:3}, key at {there:3}, distance {here - there}: product {product:.6f}")
same = rotate(query, [3]) @ rotate(key, [1]).T
assert np.allclose(same, rotate(query, [102]) @ rotate(key, [100]).T)
assert not np.allclose(same, rotate(query, [102]) @ rotate(key, [99]).T)

# %% [markdown]
# ## Scores: why they are L × L
#
# Each query is multiplied with each key: one number for each *pair of tokens*, how well what the one looks
# for fits what the other offers. `L` queries and `L` keys make `L × L` scores. The `K` numbers of a head are
# summed over and gone. They are divided by √K, or they would grow with the width of the head.

# %%
scores_HLL = q_HLK @ k_HLK.transpose(0, 2, 1) / math.sqrt(K)
print("scores:", scores_HLL.shape)

for text in (SENTENCE[:2], SENTENCE, SENTENCE + " None and not 1"):
    scores = ca.study.trace(exact, text, keep="blocks.0.attn.scores")["blocks.0.attn.scores"][0]
    print(
        f"{len(exact.tokenizer.encode(text)):3} tokens: scores {tuple(scores.shape)}, W_q still {W_q.shape}"
    )

# %% [markdown]
# A common misunderstanding is that attention weights are learned, a matrix of width × width. What is learned
# is `W_q`, `W_k`, `W_v` and `W_o`, and those are width × width. The scores are *computed* from the text, anew
# for each text. This is why one model can read texts of any length, and why a long text is costly: twice the
# tokens, four times the scores.
#
# ## The mask
#
# The model learns by guessing the next token. If a token could look at the ones behind it, it would simply
# copy the answer. So these scores are taken out: they become minus infinity, which the next step turns
# into zero. The mask is the same for every sentence and every head.

# %%
may_look = formal.unidirectional(L).T == 1  # the paper has [key, query], the transpose of ours
masked_HLL = np.where(may_look, scores_HLL, -np.inf)
assert np.allclose(masked_HLL, seen["blocks.0.attn.scores"])
removed = (~may_look).sum()
print(f"{removed} of {L * L} scores are taken out, {L * L - removed} stay")
assert removed == L * (L - 1) // 2

# %% [markdown]
# ## From scores to shares
#
# `softmax` makes each row of scores into shares: all positive, with sum 1. The result is the *pattern*: how
# much of its attention each token (row) gives to each other (column).

# %%
pattern_HLL = np.stack([formal.softmax(masked_LL.T).T for masked_LL in masked_HLL])
assert np.allclose(pattern_HLL, seen["blocks.0.attn.pattern"])
assert np.allclose(pattern_HLL.sum(-1), 1)
assert np.all(pattern_HLL[:, ~may_look] == 0)

figure, panels = plt.subplots(1, 3, figsize=(9.5, 3.6))
draw_grid(panels[0], scores_HLL[0], labels, labels, "scores of head 0", signed=True)
draw_grid(panels[1], masked_HLL[0], labels, labels, "masked", signed=True)
draw_grid(panels[2], pattern_HLL[0], labels, labels, "pattern: every row sums to 1")
panels[0].set_ylabel("this token looks ...")
panels[1].set_xlabel("... at this one")
for axes in panels[1:]:
    axes.set_yticks([])

# %% [markdown]
# What the mask is worth shows when the last token is changed. With the mask nothing earlier moves, not by a
# single bit. Without it (the same weights, a model that sees all) everything does.

# %%
sees_all = copy.deepcopy(model)
sees_all.sees = "all"
other = [*ids[:-1], (ids[-1] + 1) % V]
for name, this in (("with the mask", model), ("without", sees_all)):
    with torch.no_grad():
        change = (this(torch.tensor([ids])) - this(torch.tensor([other])))[0].abs().amax(-1)
    print(f"{name:14}", " ".join(f"{value:6.2f}" for value in change))
    assert (change[:-1].max() == 0) == (this is model)

# %% [markdown]
# ## The mix
#
# Now each token takes the values of the others, in the shares of its row, and adds them up. That is all there
# is to attention: an average, with weights found by comparing.
#
# This is also where algorithm 4 of the paper ends, so let it have its say. It wants to make queries, keys and
# values itself; ours are already made (and normed and rotated, which it does not know), so its matrices only
# pick them out.

# %%
mix_HLK = pattern_HLL @ v_HLK
assert np.allclose(mix_HLK, seen["blocks.0.attn.mix"])

one, none, nil = np.eye(K), np.zeros((K, K)), np.zeros(K)
pick = formal.AttentionWeights(
    W_q=one, b_q=nil, W_k=np.hstack([one, none]), b_k=nil, W_v=np.hstack([none, one]), b_v=nil
)
for h in range(H):
    keys_and_values = np.hstack([k_HLK[h], v_HLK[h]]).T
    paper = formal.Attention(q_HLK[h].T, keys_and_values, pick, formal.unidirectional(L))
    assert np.allclose(paper.T, mix_HLK[h])

# %% [markdown]
# ## What a head adds
#
# The heads have worked apart, and each has its own pattern. Here are all of them, in the first layer and in
# the last. Do you see one that looks at the token before, one that looks at itself, one that looks for a word
# that was there already? Do not expect each to have a meaning: in a small model many have none that we know.

# %%
figure, panels = plt.subplots(2, H, figsize=(9.5, 5.4), sharex=True, sharey=True, squeeze=False)
for row, n in zip(panels, (0, N - 1), strict=True):
    for h, axes in enumerate(row):
        draw_grid(axes, seen[f"blocks.{n}.attn.pattern"][h], labels, labels, f"layer {n}, head {h}")

# %% [markdown]
# A last matrix `W_o` brings the heads together: their mixes are laid side by side and multiplied with it.
# That is algorithm 5. One can as well cut `W_o` into `H` pieces, let each head have its own, and add up. The
# result is the same, and it tells what a head is: something that *adds a vector of its own* to every token,
# whatever the others do.
#
# (The paper's algorithm gets all queries, and all keys and values, and again matrices that pick.)

# %%
side_by_side = np.concatenate(list(mix_HLK), axis=1)  # (L, D)
adds_HLD = np.stack([mix_HLK[h] @ W_o[:, h * K : (h + 1) * K].T for h in range(H)])
assert np.allclose(side_by_side @ W_o.T, seen["blocks.0.attn.out"])
assert np.allclose(adds_HLD.sum(0), seen["blocks.0.attn.out"])

of_head = [slice(h * K, (h + 1) * K) for h in range(H)]
queries, keys, values = (np.concatenate(list(y_HLK), axis=1).T for y_HLK in (q_HLK, k_HLK, v_HLK))
row = np.eye(2 * D)
picks = tuple(
    formal.AttentionWeights(W_q=np.eye(D)[own], b_q=nil, W_k=row[:D][own], b_k=nil, W_v=row[D:][own], b_v=nil)
    for own in of_head
)
W = formal.MultiHeadWeights(picks, W_o, np.zeros(D))
paper = formal.MHAttention(queries, np.vstack([keys, values]), W, formal.unidirectional(L))
assert np.allclose(paper.T, seen["blocks.0.attn.out"])

figure, axes = plt.subplots(figsize=(6, 2.2))
sizes_HL = np.linalg.norm(adds_HLD, axis=-1)
heads = [f"head {h}" for h in range(H)]
draw_grid(axes, sizes_HL, heads, labels, "how long a vector each head adds to each token", form="{:.1f}")

# %% [markdown]
# ## Adding, not replacing
#
# What attention found is *added* to the vector that came in. The token keeps what it was and gains something.

# %%
x_LD = x_LD + adds_HLD.sum(0)
assert np.allclose(x_LD, seen["blocks.0.mid"])

# %% [markdown]
# ## The feed-forward
#
# The second half of the block looks at one token at a time. A matrix takes the `D` numbers to `F` hidden
# units, a simple function acts on each unit, a second matrix leads back to `D`. The algorithms of the paper
# have `ReLU` here (what is below zero becomes zero) or `GELU`; this model squares what ReLU leaves.
#
# One may read a hidden unit as a question to the vector. Most answer "no": zero.

# %%
normed_LD = np.stack([formal.RMSnorm(x_D, numbers(block.ffn_norm.weight)) for x_D in x_LD])
W_mlp1, W_mlp2 = numbers(block.ffn.up.weight), numbers(block.ffn.down.weight)
hidden_LF = formal.ReLU(normed_LD @ W_mlp1.T) ** 2
made_LD = hidden_LF @ W_mlp2.T
assert np.allclose(hidden_LF, seen["blocks.0.ffn.hidden"])
assert np.allclose(made_LD, seen["blocks.0.ffn.out"])
print(f"{(hidden_LF == 0).mean():.0%} of the hidden units are zero")

x_LD = x_LD + made_LD
assert np.allclose(x_LD, seen["blocks.0.out"])

# %% [markdown]
# ## The whole model
#
# That was one block. All blocks are built alike, each with weights of its own. So the model is a few lines
# long, and here they are, with nothing left out. Read them once more: there is nothing else inside.
#
# (The decoder of the paper, algorithm 10, is the same with older parts: layer norm, a learned vector for each
# position instead of rotation, GELU, no QK-norm, and a bias beside each matrix.)


# %%
def attend(x_LD, attn):
    heads = []
    q_HLK, k_HLK, v_HLK = (
        cut_into_heads(x_LD @ numbers(m.weight).T) for m in (attn.query, attn.key, attn.value)
    )
    q_HLK, k_HLK = normalise(q_HLK, attn.query_norm), normalise(k_HLK, attn.key_norm)
    for q_LK, k_LK, v_LK in zip(q_HLK, k_HLK, v_HLK, strict=True):
        scores_LL = rotate(q_LK, range(L)) @ rotate(k_LK, range(L)).T / math.sqrt(K)
        scores_LL[~may_look] = -np.inf
        heads.append(formal.softmax(scores_LL.T).T @ v_LK)
    return np.concatenate(heads, axis=1) @ numbers(attn.out.weight).T


def norm(x_LD, part):
    return np.stack([formal.RMSnorm(x_D, numbers(part.weight)) for x_D in x_LD])


def feed_forward(x_LD, ffn):
    return formal.ReLU(x_LD @ numbers(ffn.up.weight).T) ** 2 @ numbers(ffn.down.weight).T


x_LD = np.stack([W_e[:, token] for token in ids])
for b in model.blocks:
    x_LD = x_LD + attend(norm(x_LD, b.mixer_norm), b.attn)
    x_LD = x_LD + feed_forward(norm(x_LD, b.ffn_norm), b.ffn)
last_LD = norm(x_LD, model.final_norm)
W_u = numbers(model.vocab_matrix)  # (V, D)
logits_LV = last_LD @ W_u.T
assert np.allclose(logits_LV, seen["logits"])

# %% [markdown]
# ## The residual stream is a sum
#
# Since every part only adds, the vector at the end is a sum: the token's own row of the table, plus what each
# attention and each feed-forward wrote. One speaks of a *stream* that runs past all layers, and every part
# reads from it and adds to it.

# %%
parts = {"token": seen["input.out"]}
for n in range(N):
    parts[f"layer {n} attention"] = seen[f"blocks.{n}.attn.out"]
    parts[f"layer {n} feed-forward"] = seen[f"blocks.{n}.ffn.out"]
assert np.allclose(sum(parts.values()), seen[f"blocks.{N - 1}.out"])

figure, axes = plt.subplots(figsize=(6.5, 3.4))
sizes = np.stack([np.linalg.norm(part, axis=1) for part in parts.values()])
draw_grid(axes, sizes, list(parts), labels, "how long a vector each part adds", form="{:.1f}")

# %% [markdown]
# ## From a vector to a prediction
#
# At the end stands the same step backwards: from a vector to tokens. A matrix has a row for each token of the
# vocabulary; the product with each row is that token's *logit*; softmax makes probabilities of them. With the
# softmax it is algorithm 7.
#
# Every position gives a prediction, each of the token that follows *it*. The last row is the only one that
# says something we have not read.

# %%
P_LV = np.stack([formal.unembedding(last_D, W_u) for last_D in last_LD])
assert np.allclose(P_LV, formal.softmax(seen["logits"].T).T)
assert np.allclose(P_LV.sum(1), 1)

print("after         likeliest next tokens")
for t in range(L):
    best = np.argsort(-P_LV[t])[:4]
    print(f"{labels[t]:12}", "   ".join(f"{shown(token)} {P_LV[t, token]:.0%}" for token in best))
answer = int(np.argmax(P_LV[-1]))

# %% [markdown]
# Sum and matrix together give something useful. The logit of the winner is a sum as well, with one term for
# each part of the stream: who voted for it, and how strongly. (The last norm divides by a length; we hold it
# fixed. And we count from the average logit, since softmax sees differences only.)

# %%
scale = np.sqrt((x_LD[-1] ** 2).mean())
direction_D = (W_u[answer] - W_u.mean(0)) * numbers(model.final_norm.weight) / scale
votes = {part: value[-1] @ direction_D for part, value in parts.items()}
assert np.isclose(sum(votes.values()), logits_LV[-1, answer] - logits_LV[-1].mean())

figure, axes = plt.subplots(figsize=(6, 2.8))
axes.barh(
    list(votes),
    list(votes.values()),
    color=["tab:red" if vote > 0 else "tab:blue" for vote in votes.values()],
)
axes.axvline(0, color="0.3", linewidth=0.8)
axes.invert_yaxis()
axes.set_title(f"votes for {shown(answer)} after the last token")

# %% [markdown]
# ## The logit lens
#
# The stream has the same width everywhere. So nothing keeps us from reading it early, as if the model ended
# after the first layer, or the second. This is the *logit lens*: one sees the prediction come about.

# %%
lens = ca.study.lens(exact, SENTENCE, best=1)
assert np.allclose(lens.chances_NBLE[-1, 0, :, 0], P_LV.max(1))  # the last reading is the model's own

chances_NL = numbers(lens.chances_NBLE[:, 0, :, 0])
figure, axes = plt.subplots(figsize=(9.5, 2.9))
depths = ["before layer 0", *(f"after layer {n}" for n in range(N))]
draw_grid(axes, chances_NL, depths, labels, "the likeliest next token, read at every depth")
words_NL = np.vectorize(lambda token: shown(token)[:9])(lens.tokens_NBLE[:, 0, :, 0])
write_into(axes, words_NL, chances_NL / chances_NL.max(), size=8)

# %% [markdown]
# ## How wrong was it? The loss
#
# Training asks one question: what probability did you give to the token that really came? The *loss* is minus
# its logarithm: 0 if the model was certain and right, more the more it was surprised. This is the sum in
# algorithm 13, and all of training is making its mean smaller.

# %%
losses = [-np.log(P_LV[t, ids[t + 1]]) for t in range(L - 1)]
said = exact.loss(SENTENCE, per_token=True)
assert np.allclose(losses, said.nats_E, atol=1e-5)
assert np.isclose(np.mean(losses), said.nats, atol=1e-5)
print(f"mean loss {np.mean(losses):.2f}; a model that knows nothing: log V = {math.log(V):.2f}")

figure, axes = plt.subplots(figsize=(6.5, 2.4))
axes.bar(range(1, L), losses, color="tab:blue")
axes.axhline(math.log(V), color="0.5", linestyle="--", linewidth=1)
axes.text(L - 0.4, math.log(V), "knows nothing", ha="right", va="bottom", fontsize=8, color="0.4")
axes.set_xticks(range(L), labels, rotation=90)
axes.set(
    title="how surprising each token was", ylabel="loss in nats", ylim=(0, 1.25 * max(*losses, math.log(V)))
)

# %% [markdown]
# The first token has no bar: nothing stood before it to guess it from.
#
# ## What position changes
#
# Shuffle the words. A model that knows nothing of order must give the same vectors, only shuffled along. Two
# things here know of order: the rotation, and the mask, for who may look at whom depends on who comes first.
# Take away one, the other, or both, and shuffle.

# %%
shuffled = np.random.default_rng(1).permutation(L)
print("shuffled:", " ".join(labels[t] for t in shuffled))
for rotates in (True, False):
    for sees in ("past", "all"):
        changed = copy.deepcopy(model)
        changed.sees = sees
        for b in changed.blocks:
            b.attn.rotary = block.attn.rotary if rotates else None
        with torch.no_grad():
            straight, mixed = (
                changed(torch.tensor([order]))[0] for order in (ids, [ids[t] for t in shuffled])
            )
        gap = (straight[shuffled] - mixed).abs().max().item()
        print(f"rotation {rotates!s:5}  sees {sees:4}  largest change of a logit: {gap:.1e}")
        assert (gap < 1e-9) == (not rotates and sees == "all")

# %% [markdown]
# Without both, the sentence is a bag of words, to the last digit. Attention itself has no idea of order: it
# must be given one.
#
# ## Switching parts off
#
# If a part only adds, one can leave it out and look what breaks. That is the plainest of all experiments on a
# model. `edit` changes the model for as long as the `with` lasts: `ablate` puts zeros in place of a head's
# mix, `skip` passes by a whole attention, feed-forward or layer.


# %%
def chance_of_answer():
    """The probability of the token that was likeliest while nothing was switched off."""
    logits_V = numbers(ca.study.trace(exact, SENTENCE, keep="logits")["logits"])[0, -1]
    return formal.softmax(logits_V)[answer]


print(f"all parts: {shown(answer)} {chance_of_answer():.1%}")
with ca.study.edit(exact, {"blocks.0.attn.mix": ca.study.ablate(heads=[0])}):
    print(f"without head 0 of layer 0: {chance_of_answer():.1%}")
with ca.study.edit(exact, ca.study.skip("blocks.0")):
    print(f"without layer 0: {chance_of_answer():.1%}")
assert np.isclose(chance_of_answer(), P_LV[-1, answer])  # all is back

# %% [markdown]
# Now every part in turn.

# %%
columns = [*heads, "attention", "feed-forward", "layer"]
left = np.empty((N, len(columns)))
for n in range(N):
    off = [{f"blocks.{n}.attn.mix": ca.study.ablate(heads=[h])} for h in range(H)]
    off += [ca.study.skip(f"blocks.{n}.attn"), ca.study.skip(f"blocks.{n}.ffn"), ca.study.skip(f"blocks.{n}")]
    for column, change in enumerate(off):
        with ca.study.edit(exact, change):
            left[n, column] = chance_of_answer()

figure, axes = plt.subplots(figsize=(7, 3))
rows = [f"layer {n}" for n in range(N)]
title = f"probability of {shown(answer)} with one part off; with all parts {P_LV[-1, answer]:.0%}"
draw_grid(axes, 100 * left, rows, columns, title, form="{:.0f} %")

# %% [markdown]
# Many heads can go and little happens: others do the same, or this sentence does not need them. Some parts
# cannot. Which head is missed most, and where does the last token look with it?

# %%
n, h = np.unravel_index(left[:, :H].argmin(), (N, H))
looks_L = seen[f"blocks.{n}.attn.pattern"][h, -1]
print(
    f"layer {n}, head {h}: without it {shown(answer)} falls from {P_LV[-1, answer]:.0%} to {left[n, h]:.0%}"
)
print(
    f"with it {labels[-1]} looks at",
    ", ".join(f"{labels[t]} {looks_L[t]:.0%}" for t in np.argsort(-looks_L)[:3]),
)

# %% [markdown]
# Now look back at the votes. A part can matter a great deal and hardly vote at all: a later part reads what
# it wrote, and votes. And a part that matters here may be idle in another text; change `SENTENCE` and see.
#
# `switch_off` does all this in one call, for the loss of the whole text. It must find what we find by hand.

# %%
effects = ca.study.switch_off(exact, SENTENCE)
worst = int(effects.loss_after.argmax())
print(f"loss {effects.loss_before:.2f}; the worst part to lose is {effects.parts[worst].name}: ", end="")
print(f"{effects.loss_after[worst]:.2f}")
by_name = {
    (part.name, part.head): loss.item() for part, loss in zip(effects.parts, effects.loss_after, strict=True)
}
last = f"blocks.{N - 1}"
with ca.study.edit(exact, {f"{last}.attn.mix": ca.study.ablate(heads=[H - 1])}):
    assert np.isclose(by_name[f"{last}.attn.mix", H - 1], exact.loss(SENTENCE).nats, atol=1e-5)
with ca.study.edit(exact, ca.study.skip(last)):
    assert np.isclose(by_name[f"{last}.out", None], exact.loss(SENTENCE).nats, atol=1e-5)

# %% [markdown]
# The same works while the model writes. Here it continues the sentence, whole, and with each layer left out.

# %%
print("whole      ", repr(exact.generate(SENTENCE, max_tokens=12, temperature=0)))
for n in range(N):
    with ca.study.edit(exact, ca.study.skip(f"blocks.{n}")):
        print(f"without {n}  ", repr(exact.generate(SENTENCE, max_tokens=12, temperature=0)))

# %% [markdown]
# ## Where to go from here
#
# * Change `SENTENCE` at the top and run everything again. All assertions hold for any short text (no longer
#   than those of training) in which `·is` stands twice; take that cell out, and they hold for any short text.
# * `runs/demo/report.html` shows the same tensors for a longer text, to explore with the mouse.
# * `src/cutaway/formal` is the paper as code; `src/cutaway/nn` is the fast version of the same.
