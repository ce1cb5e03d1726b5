"""What each tap holds: its axes by letter, and its meaning in a few words.

B batch   L position   M memory position   D width   H query head   G key/value head   K head width   F hidden
V vocabulary   C class or channel   P patch   E a width of its own
"""

LETTERS = {
    "B": "batch: texts side by side",
    "L": "position that asks",
    "M": "position looked at",
    "D": "width: numbers a position carries",
    "H": "query head",
    "G": "key/value head",
    "K": "head width",
    "F": "feed-forward hidden units",
    "V": "vocabulary",
    "C": "class",
    "P": "patch",
    "E": "a narrower width, of the embedding",
}

# The last parts of a tap's name -> axes and meaning; the longest ending that fits is taken.
TAPS = {
    "input.token": ("BLD", "each token's own vector, looked up in the embedding"),
    "input.position": ("1LD", "the vector of each position, added so that order matters"),
    "input.segment": ("BLD", "the vector of each segment, added"),
    "input.patch": ("BPD", "each patch of the image as a vector"),
    "input.out": ("BLD", "what enters the first block"),
    "bias": ("HLM", "what the stack adds to every score, by distance"),
    "in": ("BLD", "what enters the block: the residual stream"),
    "norm.scale": ("BL1", "what the norm divides each position by"),
    "norm.normalized": ("BLD", "the stream divided by that, before gain and shift"),
    "norm.out": ("BLD", "the stream after the norm, gain and shift"),
    "q": ("BHLK", "queries: what each position asks for"),
    "k": ("BGMK", "keys: what each position offers to be found by"),
    "v": ("BGMK", "values: what a position hands over when found"),
    "q_normed": ("BHLK", "queries after their norm"),
    "k_normed": ("BGMK", "keys after their norm"),
    "q_rotated": ("BHLK", "queries, turned by their position"),
    "k_rotated": ("BGMK", "keys, turned by their position"),
    "scores": ("BHLM", "query times key for every pair of positions, scaled and masked"),
    "pattern": ("BHLM", "softmax of the scores: how much each position takes from each other"),
    "mix": ("BHLK", "values averaged by the pattern, head by head"),
    "attn.out": ("BLD", "the heads joined: what attention adds to the stream"),
    "cross.out": ("BLD", "the heads joined: what cross-attention adds to the stream"),
    "mid": ("BLD", "the stream after attention was added"),
    "crossed": ("BLD", "the stream after cross-attention was added"),
    "gate": ("BLF", "what opens and closes each hidden unit, before the activation"),
    "up": ("BLF", "each position spread out over the hidden units"),
    "hidden": ("BLF", "the hidden units after the activation"),
    "ffn.out": ("BLD", "back to the width: what the feed-forward adds to the stream"),
    "out": ("BLD", "what leaves the block"),
    "pooled": ("BD", "the one vector that is classified"),
    "logits": ("BLV", "a score for every token of the vocabulary, at every position"),
}


def describe(name: str, shape: tuple[int, ...], width: int) -> tuple[str, str]:
    """Axes and meaning of a tap in a model of this width; empty where the legend does not know them."""
    endings = [end for end in TAPS if name == end or name.endswith(("." + end, "_" + end))]
    if not endings:
        return "", ""
    axes, meaning = TAPS[max(endings, key=len)]
    if axes == "BLV" and len(shape) == 2:
        return "BC", "a score for every class"
    if name.endswith("position") and len(shape) == 2:  # of images, without the axis for broadcasting
        axes = "LD"
    if len(axes) != len(shape):
        return "", meaning
    if axes.endswith("D") and shape[-1] != width:
        axes = axes[:-1] + "E"
    return axes, meaning
