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
# # From recurrence to attention
#
# In 2014 a network that translated read the whole sentence into *one* vector and wrote from that. Three years
# later nothing was left of it but a part that had been added to help: attention. This page goes that road.
# You train the models of each station, a few seconds each, on a task where you can see what fails and why.
#
# As in `one_sentence`, nothing is taken on trust: what a model computes is computed again in a few lines, and
# an `assert` says that both agree. What is claimed about a trained model is asserted as well.
#
# You need Python, and what a matrix product is. Run the cells from top to bottom; change things; run again.

# %%
import math
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import cutaway as ca
from cutaway import formal, models, spec

# %% [markdown]
# Some help with the pictures comes next; it has nothing to do with the road.

# %%
plt.rcParams |= {
    "figure.dpi": 100,
    "font.size": 9,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
}


def draw_grid(axes, values, rows, columns, title=""):
    """Shares as squares: dark is much."""
    axes.imshow(values, cmap="Blues", vmin=0, vmax=max(1e-9, values.max()), aspect="auto")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(columns)), columns)
    axes.tick_params(length=0, pad=4)
    axes.set_title(title)


def numbers(tensor):
    """A tensor of the model as a NumPy array."""
    return tensor.detach().double().numpy()


# %% [markdown]
# ## Attention is older than networks
#
# Somebody measured a curve at forty places, not very exactly. What is its value at a place in between, where
# nobody measured? The laziest answer is the average of all measurements. A better one, of Nadaraya and of
# Watson in 1964: an average in which near measurements count more.
#
# Say it in other words. You come with a *query*, the place you ask about. Each measurement has a *key*, its
# place, and a *value*, what was measured. Query and key make a *score*; scores become shares, positive and
# with sum 1; the answer is the values averaged by the shares. That is attention, all of it. The rest of the
# page is about where queries, keys, values and scores come from.

# %%
draw = np.random.default_rng(4)


def curve(x):
    """What is measured."""
    return 2 * np.sin(2 * x) + x


keys = np.sort(draw.uniform(0, 5, 40))
values = curve(keys) + draw.normal(0, 0.5, 40)
queries = np.linspace(0, 5, 101)


def pool(queries, keys, values, width):
    """The average of the values by a Gaussian of the distance, and the shares, a row for each query."""
    nearness = np.exp(-((queries[:, None] - keys) ** 2) / (2 * width**2))
    shares = nearness / nearness.sum(1, keepdims=True)
    return shares @ values, shares


average = np.full_like(queries, values.mean())
guessed, shares = pool(queries, keys, values, width=1.0)

# %% [markdown]
# A Gaussian is the exponential of something, and so the shares are a *softmax*: of minus the squared
# distance.

# %%
scores = -((queries[:, None] - keys) ** 2) / 2
assert np.allclose(shares, formal.softmax(scores.T).T)  # the paper's softmax runs down the columns
assert np.allclose(shares.sum(1), 1)

# %% [markdown]
# How wide should the Gaussian be? That can be learned. Leave out each measurement in turn, guess it from the
# others, and go down the slope of the error. It is the smallest network there is: one parameter.

# %%
place, measured = torch.tensor(keys), torch.tensor(values)
width = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
optimizer = torch.optim.Adam([width], lr=0.05)
itself = torch.eye(len(keys), dtype=torch.bool)
for _ in range(100):
    score = -((place[:, None] - place) ** 2) / (2 * width**2)
    share = score.masked_fill(itself, -torch.inf).softmax(1)  # nobody may look at himself
    error = ((share @ measured - measured) ** 2).mean()
    optimizer.zero_grad()
    error.backward()
    optimizer.step()
learned = abs(width.item())
guessed_better, shares_better = pool(queries, keys, values, learned)

errors = [np.mean((guess - curve(queries)) ** 2) for guess in (average, guessed, guessed_better)]
print(f"learned width {learned:.2f}; error of the average {errors[0]:.2f}, ", end="")
print(f"of width 1 {errors[1]:.2f}, of the learned width {errors[2]:.2f}")
assert errors[2] < errors[1] < errors[0]

figure, panels = plt.subplots(1, 3, figsize=(9.5, 3.1))
axes = panels[0]
axes.plot(keys, values, ".", color="0.6", label="measured")
axes.plot(queries, curve(queries), color="0.3", linestyle="--", linewidth=1, label="the truth")
for guess, name in ((average, "average"), (guessed, "width 1"), (guessed_better, f"width {learned:.2f}")):
    axes.plot(queries, guess, label=name)
axes.legend(fontsize=7)
axes.set_title("three averages of the same values")
for axes, shown, name in ((panels[1], shares, "1"), (panels[2], shares_better, f"{learned:.2f}, learned")):
    axes.imshow(shown, cmap="Blues", vmin=0, aspect="auto")
    axes.set(title=f"shares at width {name}", xlabel="key (measurement)", xticks=[])
    axes.set_yticks(range(0, 101, 20), [f"{x:.0f}" for x in queries[::20]])
panels[1].set_ylabel("query")

# %% [markdown]
# Each row of the blue pictures is one query, and where it looks. The learned width looks at fewer keys.
#
# Transformers use a product instead of a distance. That is less of a step than it seems:
#
# $-(q-k)^2/2w^2 = qk/w^2 - k^2/2w^2 - q^2/2w^2$
#
# The last term is the same for all keys, and softmax does not see what is the same for all. So the score is a
# product of the vectors $(q, 1)$ and $(k/w^2, -k^2/2w^2)$, and algorithm 3 of Phuong & Hutter's *Formal
# Algorithms for Transformers* (arXiv 2207.09238), given the right matrices, *is* the average of 1964:

# %%
W_q = np.array([[1, 0, 0, 0], [0, 0, 1, 0]])  # what a place e = (x, x², 1, y) asks: (x, 1)
W_k = np.sqrt(2) * np.array([[1, 0, 0, 0], [0, -1 / 2, 0, 0]]) / learned**2  # it offers (x, -x²/2) / w²
W_v = np.array([[0, 0, 0, 1]])  # and hands over y
weights = formal.AttentionWeights(W_q, np.zeros(2), W_k, np.zeros(2), W_v, np.zeros(1))
context = [np.array([x, x**2, 1, y]) for x, y in zip(keys, values, strict=True)]
by_algorithm_3 = [
    formal.basic_single_query_attention(np.array([x, x**2, 1, 0]), context, weights)[0] for x in queries
]
assert np.allclose(by_algorithm_3, guessed_better)

# %% [markdown]
# (The √2 is there because the algorithm divides by it. Why it divides comes next.)
#
# ## Scores
#
# Three ways to score a query $q$ with a key $k$ made history:
#
# * *additive*, Bahdanau 2014: $v \cdot \tanh(Wq + Uk)$, a small network with one hidden layer;
# * *dot product*, Luong 2015: $q \cdot k$, no parameter at all, and one matrix product for all pairs;
# * *scaled dot product*, Vaswani 2017: $q \cdot k / \sqrt d$, where $d$ is how many numbers a key has.
#
# Why scaled? A product of two vectors is a sum of $d$ terms. If each term has variance 1, the sum has
# variance
# $d$: the wider the vectors, the wilder the scores. And softmax of wild scores is hardly an average any more.
# Nearly all the share goes to one key, and where a share is 0 or 1 it hardly moves when the scores do. Such a
# model cannot learn where to look, because looking elsewhere makes no difference it could feel.

# %%
widths = [1, 4, 16, 64, 256, 1024]
variance, entropy, slope = np.zeros((3, 2, len(widths)))
for column, d in enumerate(widths):
    q_Ld, k_Md = draw.normal(size=(2000, d)), draw.normal(size=(32, d))
    for row, scale in enumerate((1.0, 1 / math.sqrt(d))):
        scores_LM = q_Ld @ k_Md.T * scale
        shares_LM = formal.softmax(scores_LM.T).T
        variance[row, column] = scores_LM.var()
        entropy[row, column] = -(shares_LM * np.log(shares_LM + 1e-300)).sum(1).mean() / math.log(32)
        slope[row, column] = (shares_LM * (1 - shares_LM)).sum(1).mean()  # how far shares move with scores

assert np.allclose(variance[0] / widths, 1, atol=0.5) and np.allclose(variance[1], 1, atol=0.5)
assert entropy[0, -1] < 0.1 < 0.6 < entropy[1].min()
assert slope[0, -1] < 0.2 * slope[1, -1]

figure, panels = plt.subplots(1, 3, figsize=(9.5, 2.8))
for axes, shown, name in zip(
    panels,
    (variance, entropy, slope),
    ("variance of scores", "entropy of shares", "how far shares can move"),
    strict=True,
):
    axes.plot(widths, shown[0], "o-", label="q · k")
    axes.plot(widths, shown[1], "o-", label="q · k / √d")
    axes.set(title=name, xscale="log", xlabel="d, width of a key")
panels[0].set_yscale("log")
panels[0].legend()
panels[1].set_ylabel("1: looks everywhere, 0: at one key")
panels[1].set_ylim(0, 1)

# %% [markdown]
# Sentences have different lengths, and shorter ones are filled up with padding. Nobody must look there. Its
# scores become minus infinity, and softmax turns that into a share of exactly 0; the others are what they
# would be if the padding did not exist. This is the *masked softmax*. One case needs care: a query that may
# look at nothing would be 0/0. Cutaway, like its `formal`, says that it finds exactly nothing.

# %%
scores_M = draw.normal(size=6)
real_M = np.array([True, True, True, True, False, False])
masked_M = formal.softmax(np.where(real_M, scores_M, -np.inf))
assert np.array_equal(masked_M > 0, real_M)
assert np.allclose(masked_M[:4], formal.softmax(scores_M[:4]))

X, Z = draw.normal(size=(3, 2)), draw.normal(size=(3, 6))  # two queries; a column is a token
one = formal.AttentionWeights(np.eye(3), np.zeros(3), np.eye(3), np.zeros(3), np.eye(3), np.zeros(3))
found = formal.Attention(X, Z, one, Mask=np.array([[1, 0]] * 4 + [[0, 0]] * 2))  # the second sees nothing
assert np.array_equal(found[:, 1], np.zeros(3)) and np.abs(found[:, 0]).min() > 0

figure, panels = plt.subplots(1, 2, figsize=(6.5, 2.1), sharey=True)
for axes, shown, name in zip(
    panels, (formal.softmax(scores_M), masked_M), ("softmax", "masked"), strict=True
):
    axes.bar(range(6), shown, color=["tab:blue"] * 4 + ["tab:orange"] * 2)
    axes.set_title(name)
    axes.set_xticks(range(6), ["a", "b", "c", "d", "pad", "pad"])

# %% [markdown]
# ## A cell that remembers
#
# Before attention, text was read by *recurrence*: a vector, the state, and a rule that makes the next state
# from it and the next token. Whatever the network knows of the past it must carry in the state. In a language
# model the state says which token comes next, and when the model writes, its output is its next input.
#
# The rule most used for short states is the *gated recurrent unit*, GRU:
#
# $r = \sigma(W_r x + U_r h)$, how much of the old state to look at;<br>
# $z = \sigma(W_z x + U_z h)$, how much of the old state to keep;<br>
# $n = \tanh(W_n x + r \cdot (U_n h))$, what would be new;<br>
# $h' = (1 - z) \cdot n + z \cdot h$.
#
# (Each product has a shift too, left out here.) With `z` at 1 the state stays, for as many steps as you like:
# the gates are there so that a network can *hold* something.

# %%
WORD = "recurrence"
letters = sorted(set(WORD))
ids = [letters.index(letter) for letter in WORD]
cell = models.build(spec.gru(layers=1, width=24, vocab=len(letters)), seed=1).double().eval()
layer = cell.layers[0]
W_gates, U_gates = (np.split(numbers(part), 3) for part in (layer.weight_ih_l0, layer.weight_hh_l0))
b_gates, c_gates = (np.split(numbers(part), 3) for part in (layer.bias_ih_l0, layer.bias_hh_l0))


def sigmoid(x):
    """Between 0 and 1."""
    return 1 / (1 + np.exp(-x))


def step_of_gru(x, h):
    """One token's vector and a state -> the next state."""
    from_x = [W @ x + b for W, b in zip(W_gates, b_gates, strict=True)]
    from_h = [U @ h + c for U, c in zip(U_gates, c_gates, strict=True)]
    r, z = sigmoid(from_x[0] + from_h[0]), sigmoid(from_x[1] + from_h[1])
    n = np.tanh(from_x[2] + r * from_h[2])
    return (1 - z) * n + z * h


embedding_VD = numbers(cell.input.token.weight)
h, states = np.zeros(24), []
for token in ids:
    h = step_of_gru(embedding_VD[token], h)
    states.append(h)
trace = ca.study.trace(cell, ids)
assert np.allclose(states, numbers(trace["layers.0.out"][0]))
logits_LV = np.array(states) @ embedding_VD.T + numbers(cell.head.bias)
assert np.allclose(logits_LV, numbers(trace["logits"][0]))

state = cell.start()  # the same token by token, as when the model writes
with torch.no_grad():
    stepped = [cell.step(torch.tensor([[token]]), state)[0, 0] for token in ids]
assert np.allclose(logits_LV, [numbers(row) for row in stepped])

# %% [markdown]
# And its older sister, the LSTM of 1997. It keeps two vectors, the state `h` and a cell `c`, and three gates:
# what enters the cell, what stays in it, what is shown of it.
#
# $c' = f \cdot c + i \cdot g$ and $h' = o \cdot \tanh c'$, where $i$, $f$ and $o$ are gates like $z$ above.

# %%
lstm = models.build(spec.lstm(layers=1, width=24, vocab=len(letters)), seed=1).double().eval()
layer = lstm.layers[0]
h, c, kept = np.zeros(24), np.zeros(24), []
for token in ids:
    entering = numbers(layer.weight_ih_l0) @ numbers(lstm.input.token.weight)[token] + numbers(
        layer.bias_ih_l0
    )
    entering = entering + numbers(layer.weight_hh_l0) @ h + numbers(layer.bias_hh_l0)
    i, f, g, o = np.split(entering, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    kept.append(h)
assert np.allclose(kept, numbers(ca.study.trace(lstm, ids)["layers.0.out"][0]))

# %% [markdown]
# What does a state still know of the beginning? Read two words that differ in their first letter alone, and
# see how far apart the states are. These cells have learned nothing yet. They forget fast.

# %%
apart = {}
for name, model in (("GRU", cell), ("LSTM", lstm)):
    straight, changed = (
        numbers(ca.study.trace(model, row, keep="layers.0.out")["layers.0.out"][0])
        for row in (ids * 2, [(ids[0] + 1) % len(letters), *ids[1:], *ids])
    )
    apart[name] = np.linalg.norm(straight - changed, axis=1)
    assert apart[name][-1] < 0.3 * apart[name][0]

figure, panels = plt.subplots(1, 2, figsize=(9.5, 2.6), width_ratios=[1.3, 1])
grid = panels[0].imshow(np.array(states).T, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
panels[0].set_xticks(range(len(WORD)), WORD)
panels[0].set(title="the state of the GRU, letter by letter", ylabel="number of the state")
for name, distance in apart.items():
    panels[1].plot(range(1, len(distance) + 1), distance / distance[0], "o-", markersize=3, label=name)
panels[1].set(title="what is left of another first letter", xlabel="letters read", ylim=(0, 1.05))
panels[1].set_xticks(range(0, 21, 5))
panels[1].legend()

# %% [markdown]
# ## A task one can see through
#
# Real translation takes a small model some four minutes to learn (the recipe `translate-quick`), and its
# rules are too many to check one. So we take strings of up to twelve letters, behind a sign that says what
# to do with them: `R` to reverse, `S` to sort.
#
# What is trained already is not trained again: if you change something, delete its folder in
# `runs/recurrence-to-attention`.

# %%
LONGEST, LETTERS = 12, 10
DATA = spec.Reversal(letters=LETTERS, shortest=1, longest=LONGEST)
RECURRENT = spec.AdamW(rate=6e-3, decay=0.0)


def trained(name, model, steps, optimizer):
    """A session with this model, trained on the strings, or found trained already."""
    made = spec.Run(
        steps=steps,
        batch=48,
        length=LONGEST + 2,
        precision="fp32",
        compile="off",
        threads=1,  # so small that a second one would only wait
        optimizer=optimizer,
        schedule=spec.StableDecay(warmup=20, decay=0.5),
    )
    recipe = spec.Recipe(name=name, model=model, data=DATA, run=made)
    outs = [Path(root) / "recurrence-to-attention" / name for root in ("runs", "../runs")]
    out = next((out for out in outs if any(out.glob(f"checkpoints/step-*{steps}"))), None)
    if out is None:
        out = ca.train(recipe, out=outs[0]).out
    return ca.load(out)


# %% [markdown]
# ## Everything in one vector
#
# Two recurrent networks can translate (Cho 2014, Sutskever 2014). One, the *encoder*, reads the source. The
# other, the *decoder*, begins with the encoder's last state and writes the target, token by token. `cho` is
# such a pair; its decoder gets the encoder's last state again at every step, so that it need not remember it.
# Training takes a few seconds.

# %%
one_vector = trained("one-vector", spec.PRESETS["cho"](width=48), 450, RECURRENT)

plan = one_vector.spec
print(plan.encoder, plan.decoder, sep="\n")

# %% [markdown]
# First see that it really is one vector. Whatever the length of the source, what the decoder is given has the
# same 48 numbers.

# %%
for text in ("Rabc", "Rabcdefghijab"):
    source = torch.tensor([one_vector.tokenizer.encode(text).tolist()])
    with torch.no_grad():
        read = one_vector.model.encode(source)
        begun = one_vector.model.start(source)
    print(f"{text:14} encoder {tuple(read.memory.values.shape)}, decoder {tuple(begun.memory.values.shape)}")
    assert torch.equal(begun.memory.values[0, 0], read.memory.values[0, -1])
    assert begun.memory.values.numel() == plan.width

# %% [markdown]
# Now let it write strings that training never saw, and count, for each length, how many have no fault at all.

# %%
from cutaway.data.tasks import REVERSE_ID, StringTask

made = StringTask(seed=0, letters=LETTERS, shortest=1, longest=LONGEST)
unseen = made.unseen_strings(0, 3000)
LENGTHS = [length for length in made.train_lengths if length > 2]  # of one or two letters there are few
begin = one_vector.tokenizer.start
signs = {"reverse": unseen.source_BM[:, 0] == REVERSE_ID, "sort": unseen.source_BM[:, 0] != REVERSE_ID}


@torch.no_grad()
def without_fault(session):
    """For each sign the share of strings, length by length, that a model writes without a fault."""
    source = torch.tensor(unseen.source_BM)
    real = torch.arange(source.shape[1]) < torch.tensor(unseen.source_lengths_B)[:, None]
    state = session.model.start(source, padding_BM=real)
    token, written = torch.full((len(source), 1), begin), []
    for _ in range(LONGEST + 1):
        token = session.model.step(token, state).argmax(-1)  # its output is its next input
        written.append(token)
    right = torch.tensor(unseen.target_BL[:, 1:])
    same = (torch.cat(written, 1) == right) | (torch.arange(LONGEST + 1) >= real.sum(1)[:, None])
    perfect = same.all(1).numpy()
    lengths = unseen.source_lengths_B - 1
    return {
        sign: [perfect[chosen & (lengths == length)].mean() for length in LENGTHS]
        for sign, chosen in signs.items()
    }


COLOURS = {
    "one vector": "tab:red",
    "additive": "tab:blue",
    "multiplicative": "tab:green",
    "transformer": "0.2",
}
scored = {"one vector": without_fault(one_vector)}


def draw_scores(title):
    """The share of perfect strings over their length, for all models so far."""
    _, panels = plt.subplots(1, 2, figsize=(9.5, 2.9), sharey=True)
    for axes, sign in zip(panels, signs, strict=True):
        for name, found in scored.items():
            axes.plot(LENGTHS, found[sign], "o-", markersize=4, color=COLOURS[name], label=name)
        axes.set(title=f"{sign}: {title}", xlabel="letters in the string", ylim=(-0.03, 1.03))
    panels[0].set_ylabel("without a fault")
    panels[1].legend(loc="lower left")


def long_ones(name, sign):
    """The score of a model on the strings of nine letters or more."""
    return np.mean([share for share, length in zip(scored[name][sign], LENGTHS, strict=True) if length >= 9])


draw_scores("one vector")
print({sign: f"{long_ones('one vector', sign):.0%} of the long ones" for sign in signs})

# %% [markdown]
# The picture is worth a second look. *Reversing* breaks down: a few letters go through the bottleneck, more
# do not. *Sorting* holds much longer, with the same vector, in the same network. Why? To sort one needs to
# know how many there are of each letter, ten small numbers, and one vector holds those. To reverse one
# needs to know what stood where. It is not the length of a string that is too much, it is what must be
# known of it.
#
# More steps and more numbers move the edge to the right. They do not take it away: the vector has a size, and
# strings have none.

# %%
assert scored["one vector"]["reverse"][0] > 0.5  # three letters
assert long_ones("one vector", "reverse") < 0.3
assert long_ones("one vector", "sort") > long_ones("one vector", "reverse") + 0.2

# %% [markdown]
# ## Look again: additive attention
#
# Bahdanau's answer: keep *all* the states of the encoder, one for each letter, and let the decoder choose at
# every step where to look. It is the average of the beginning of this page. The query is the decoder's state;
# keys and values are the encoder's states, which here read both ways, so that each knows both sides of its
# place; the score is the additive one.

# %%
additive = trained("additive", spec.PRESETS["bahdanau"](width=48), 300, RECURRENT)
scored["additive"] = without_fault(additive)
draw_scores("looking again")
print({sign: f"{long_ones('additive', sign):.0%} of the long ones" for sign in signs})
assert long_ones("additive", "reverse") > long_ones("one vector", "reverse") + 0.4

# %% [markdown]
# A width as small as before, fewer steps of training, and the edge is gone.
#
# What does the model compute? We take one string through it by hand. `trace` reads the tensors as the model
# makes them, and the lines below make the scores from its weights.

# %%
TEXT = "Rhdbagicef"
SAYS = [f"{letter} " for letter in TEXT]
source = additive.tokenizer.encode(TEXT).tolist()
target = [begin, *additive.tokenizer.encode(TEXT[:0:-1]).tolist()]
wrote = [*TEXT[:0:-1], "end"]
seen = {name: value[0] for name, value in ca.study.trace(additive, (source, target)).items()}
for name, value in seen.items():
    print(f"{name:30} {tuple(value.shape)}")

# %%
look = additive.model.decoder.look
keys_MK = seen["encoder.layers.0.out"]
with torch.no_grad():
    first = look.first[0](keys_MK[0, 48:]).tanh()  # the backward direction ends at the first letter
    states_LD = torch.stack([first, *seen["decoder.layers.0.out"][:-1]])  # each is that *before* its step
    hidden_LMF = (look.query(states_LD)[:, None] + look.key(keys_MK)[None]).tanh()
    scores_LM = look.score(hidden_LMF)[..., 0]
    pattern_LM = scores_LM.softmax(-1)
assert torch.allclose(scores_LM, seen["decoder.look.scores"][0], atol=1e-4)
assert torch.allclose(pattern_LM, seen["decoder.look.pattern"][0], atol=1e-4)
assert torch.allclose(pattern_LM @ keys_MK, seen["decoder.look.mix"], atol=1e-4)

# %% [markdown]
# And here is where it looked. A row is a step of the decoder, named by what it has to write; a column is a
# letter of the source.

# %%
TOLD = {}


def draw_looks(axes, shares_LM, name):
    """A pattern, and where on average each row looks; how well that runs backward is kept in TOLD."""
    draw_grid(axes, shares_LM, wrote, list(TEXT), name)
    middle = shares_LM @ np.arange(len(TEXT))
    TOLD[name] = np.corrcoef(middle[:-1], range(len(wrote) - 1))[0, 1]


figure, axes = plt.subplots(figsize=(4, 3.6))
draw_looks(axes, numbers(pattern_LM), "additive")
axes.set(xlabel="read", ylabel="to be written")
assert TOLD["additive"] < -0.8  # later steps look further to the left

# %% [markdown]
# Nobody told the model to run backward. It learned where to look from the error of what it wrote. (If the
# dark squares stand beside the letter instead of on it: an encoder that reads both ways knows its
# neighbours.)
#
# ## Multiplicative attention
#
# Luong's variant scores with a product, $s \cdot W h$. It looks *after* the step, with the new state, and
# what it finds goes to the output and not back into the network. So the decoder's states do not wait for
# the looks, and all scores are one matrix product. That is why products won: they are what the machines do
# fastest.

# %%
multiplicative = trained("multiplicative", spec.PRESETS["luong"](layers=1, width=48), 400, RECURRENT)
scored["multiplicative"] = without_fault(multiplicative)
read = {name: value[0] for name, value in ca.study.trace(multiplicative, (source, target)).items()}
states_LD, keys_MD = read["decoder.layers.0.out"], read["encoder.layers.0.out"]
with torch.no_grad():
    scores_LM = states_LD @ multiplicative.model.decoder.look.key(keys_MD).T
assert torch.allclose(scores_LM, read["decoder.look.scores"][0], atol=1e-4)
assert torch.allclose(scores_LM.softmax(-1), read["decoder.look.pattern"][0], atol=1e-4)

draw_scores("two ways to score")
print({sign: f"{long_ones('multiplicative', sign):.0%} of the long ones" for sign in signs})
assert long_ones("multiplicative", "reverse") > long_ones("one vector", "reverse") + 0.3

# %% [markdown]
# ## More heads than one
#
# One softmax makes one average. Suppose a place wants to know *two* things, what stands to its left and what
# to its right, and not their mean. One head cannot tell it: whatever its shares, one average of two unknown
# numbers comes back. Two heads are two averages.
#
# Here is that experiment, with Cutaway's attention alone, no network around it. A row is a circle of eight
# places; each has a random number and knows its place. To be told: the number on the left and that on the
# right.

# %%
from cutaway.nn.attention import Attention
from cutaway.nn.mask import settle

PLACES, WIDTH = 8, 24
mask = settle("all", PLACES, PLACES, device=torch.device("cpu"))


def circles(generator, count=64):
    """Rows of places with a number each (B, L, D), and the numbers to the left and right (B, L, 2)."""
    number_BL = torch.randn(count, PLACES, generator=generator)
    place_LE = torch.eye(PLACES).expand(count, -1, -1)
    x_BLD = torch.cat([number_BL[..., None], place_LE, torch.zeros(count, PLACES, WIDTH - PLACES - 1)], -1)
    return x_BLD, torch.stack([number_BL.roll(1, 1), number_BL.roll(-1, 1)], -1)


def teach(heads):
    """Train one attention on the circles; it, and the error on the way (1: it knows nothing)."""
    torch.manual_seed(0)
    attention = Attention(spec.Attention(heads, head_width=WIDTH // heads), WIDTH)
    with torch.no_grad():
        attention.query.weight[:, 0] = attention.key.weight[:, 0] = 0
    optimizer, generator = torch.optim.Adam(attention.parameters(), lr=0.02), torch.Generator().manual_seed(1)
    errors = []
    for _ in range(400):
        x_BLD, asked = circles(generator)
        error = ((attention(x_BLD, mask=mask)[..., :2] - asked) ** 2).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        with torch.no_grad():  # scores see the places, not the numbers
            attention.query.weight[:, 0] = attention.key.weight[:, 0] = 0
        errors.append(error.item())
    return attention, errors


taught = {heads: teach(heads) for heads in (1, 2)}
final = {heads: np.mean(errors[-20:]) for heads, (_, errors) in taught.items()}
print({f"{heads} heads": f"error {error:.2f}" for heads, error in final.items()})
assert final[1] > 0.4 and final[2] < 0.2  # half of what is asked is the best that one average can do

x_BLD, _ = circles(torch.Generator().manual_seed(2), count=1)
from cutaway.tap import Recorder

figure, panels = plt.subplots(1, 4, figsize=(10, 2.7), width_ratios=[1.4, 1, 1, 1])
for heads, (_, errors) in taught.items():
    panels[0].plot(errors, label=f"{heads} head{'s' if heads > 1 else ''}, {WIDTH // heads} wide")
panels[0].axhline(0.5, color="0.5", linestyle="--", linewidth=1)
panels[0].set(title="error", xlabel="step", ylim=(0, 1.2))
panels[0].legend()
shown = {}
for heads, (attention, _) in taught.items():
    recorder = Recorder({"pattern", "out"})
    with torch.no_grad():
        attention(x_BLD, mask=mask, tap=recorder)
    shown[heads] = recorder.seen
names = ["the only head", "head 0 of two", "head 1 of two"]
grids = [*shown[1]["pattern"][0], *shown[2]["pattern"][0]]
for axes, name, grid in zip(panels[1:], names, grids, strict=True):
    draw_grid(axes, numbers(grid), range(PLACES), range(PLACES), name)
panels[1].set_ylabel("this place looks at ...")

# %% [markdown]
# Both have the same number of parameters. Two heads find the left and the right neighbour, one each; a single
# one settles for half of the answer, the dashed line. (Let the scores see the numbers too, and a single head
# finds a trick: it makes the shares depend on one number and so smuggles it through. Take out the two lines
# that set weights to 0, and see.)
#
# All of it is algorithm 5 of the paper. It writes a token as a column, we as a row; otherwise it is this:

# %%
attention = taught[2][0]
parts = [np.split(numbers(linear.weight), 2) for linear in (attention.query, attention.key, attention.value)]
none = np.zeros(WIDTH // 2)
theta = formal.MultiHeadWeights(
    tuple(formal.AttentionWeights(q, none, k, none, v, none) for q, k, v in zip(*parts, strict=True)),
    numbers(attention.out.weight),
    np.zeros(WIDTH),
)
X = numbers(x_BLD[0]).T
by_algorithm_5 = formal.MHAttention(X, X, theta, Mask=formal.bidirectional(PLACES, PLACES))
assert np.allclose(by_algorithm_5.T, numbers(shown[2]["out"][0]), atol=1e-4)

# %% [markdown]
# ## Attention to itself, and the price: no order
#
# In the circles queries, keys and values came from the *same* row. This is *self-attention*, the step of
# 2017: if every place can look at every other, why have a recurrence at all? A recurrence takes as many
# steps as there are letters, one after the other; attention takes one.
#
# But a recurrence knows what came first. Attention does not: shuffle the rows, and the result is shuffled
# along, and otherwise the same.

# %%
plain = models.build(spec.vaswani(layers=2, width=48, heads=4, hidden=96, vocab=15, dropout=0.0), seed=0)
shuffled = torch.tensor([3, 0, 5, 1, 4, 2])
tokens = torch.tensor([[5, 9, 7, 12, 6, 8]])
unordered = models.build(replace(plain.plan, source=replace(plain.plan.source, position=None)), seed=0)
with torch.no_grad():
    for name, model in (("with positions", plain), ("without", unordered)):
        change = model.double().encode(tokens)[:, shuffled] - model.encode(tokens[:, shuffled])
        print(f"{name:15} largest change of a vector {change.abs().max():.1e}")
        assert (change.abs().max() < 1e-9) == (name == "without")

# %% [markdown]
# So the order must be put in. In 2017 a fixed vector was added to each token, sines and cosines of its
# position, the clock hands of a fast and of ever slower clocks. What is that worth? Train the whole
# encoder-decoder of that year, self-attention on both sides, attention across, twice: as it is, and without
# positions.

# %%
MUON = spec.Muon(rate=0.02)
whole = trained("transformer", plain.plan, 350, MUON)
bag = trained("no-positions", unordered.plan, 350, MUON)
scored["transformer"] = without_fault(whole)


@torch.no_grad()
def nats(session, sign):
    """The mean loss of a letter, on the strings with this sign."""
    source, target = torch.tensor(unseen.source_BM[signs[sign]]), torch.tensor(unseen.target_BL[signs[sign]])
    real = torch.arange(source.shape[1]) < torch.tensor(unseen.source_lengths_B[signs[sign]])[:, None]
    logits = session.model(source, target[:, :-1], source_padding_BM=real)
    asked = target[:, 1:].masked_fill(torch.arange(LONGEST + 1) >= real.sum(1)[:, None], -100)
    return torch.nn.functional.cross_entropy(logits.mT, asked).item()


losses = {name: [nats(model, sign) for sign in signs] for name, model in (("with", whole), ("without", bag))}
print({name: [f"{loss:.2f}" for loss in both] for name, both in losses.items()}, "nats,", list(signs))
assert losses["without"][0] > losses["with"][0] + 0.3
assert losses["without"][0] > losses["without"][1] + 0.3

W_p = whole.model.source.position(torch.arange(32)[None], 31)[0]
figure, panels = plt.subplots(1, 2, figsize=(9.5, 2.8), width_ratios=[1.5, 1])
panels[0].imshow(numbers(W_p).T[:24], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
panels[0].set(
    title="what is added at each position (half of it)", xlabel="position", ylabel="number of the vector"
)
for offset, (name, both) in zip((-0.2, 0.2), losses.items(), strict=True):
    panels[1].bar(np.arange(2) + offset, both, 0.4, label=f"{name} positions")
panels[1].set_xticks(range(2), list(signs))
panels[1].set(title="loss", ylabel="nats a letter")
panels[1].legend()

# %% [markdown]
# Without positions reversing is guessing, from a bag of letters. Sorting is nearly as good as before: a bag
# is all that sorting needs. The same lesson as with the one vector, from the other side.
#
# ## The whole thing
#
# That was the last station. Here are all the models of this page on the same strings, and where those that
# look have looked for the same word: the recurrent ones with their single head, the transformer with each of
# its four, in the second layer.

# %%
draw_scores("all of them")
for name in scored:
    print(f"{name:15}", {sign: f"{long_ones(name, sign):.0%}" for sign in signs}, "of the long ones")
assert long_ones("transformer", "reverse") > long_ones("one vector", "reverse") + 0.4

# %%
cross = ca.study.trace(whole, (source, target), keep="decoder.blocks.*.cross.pattern")
heads_HLM = numbers(cross["decoder.blocks.1.cross.pattern"][0])
figure, panels = plt.subplots(2, 3, figsize=(9.5, 6.2))
grids = [numbers(pattern_LM), numbers(read["decoder.look.pattern"][0]), *heads_HLM]
names = ["additive", "multiplicative", *(f"transformer, head {head}" for head in range(4))]
for axes, grid, name in zip(panels.flat, grids, names, strict=True):
    draw_looks(axes, grid, name)
panels[0, 0].set_ylabel("to be written")
panels[1, 0].set(ylabel="to be written", xlabel="read")
print({name: f"{told:.2f}" for name, told in TOLD.items()})
assert TOLD["multiplicative"] < -0.5

# %% [markdown]
# Pictures like these are read as *alignments*: which word was this word made from. Bahdanau drew the first,
# for French. `align` makes them for any of our encoder-decoders: the mean over the heads of a layer.

# %%
from cutaway.generate.align import align

ends = [*target[1:], additive.tokenizer.end]
aligned = align(whole.model, [source], [ends], begin=begin, layer=1)[0]
assert np.allclose(numbers(aligned.weights_LM), heads_HLM.mean(0), atol=1e-5)

figure, axes = plt.subplots(figsize=(4, 3.6))
draw_looks(axes, numbers(aligned.weights_LM), "transformer, mean of its heads")
axes.set(xlabel="read", ylabel="to be written")

# %% [markdown]
# ## Where to go from here
#
# * Make the one vector wider, or train it for longer, and see how far the edge moves. Or feed `sutskever`,
#   which has two vectors a layer, since its cell is an LSTM.
# * `cutaway train translate-quick` does the same with German and English; `cutaway translate --align`
#   prints the links.
# * `notebooks/one_sentence.py` takes a decoder apart, tensor by tensor; `notebooks/masked_words.py` an
#   encoder.
# * `src/cutaway/nn/look.py` and `recurrent.py` are the models of this page, `docs/sequences.md` says when
#   to take which.
