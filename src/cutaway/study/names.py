"""Names of taps: wildcards, and TransformerLens' names beside ours.

Wildcards are those of `cutaway.spec.names`: `blocks.*.out` is the residual stream behind each block and not
`blocks.3.attn.out`. A TransformerLens name is an alias of the tap with the same value; heads come before
positions in ours, (B, H, L, K), whatever the name.
"""

from functools import lru_cache

from cutaway import spec
from cutaway.errors import TapError, nearest
from cutaway.models import sites
from cutaway.spec.names import matcher

_SUBLAYER = {
    "q": "hook_q",
    "k": "hook_k",
    "v": "hook_v",
    "q_rotated": "hook_rot_q",
    "k_rotated": "hook_rot_k",
    "scores": "hook_attn_scores",
    "pattern": "hook_pattern",
    "mix": "hook_z",
}
_NORM = {"scale": "hook_scale", "normalized": "hook_normalized"}


def find(pattern: str, plan: spec.Model) -> list[str]:
    """Our names of the taps that a pattern or an alias means, in the order they fire.

    Raises TapError, with near names, where it means none.
    """
    known, other = sites(plan), aliases(plan)
    if pattern in known:
        return [pattern]
    expression = matcher(pattern)
    found = {name for name in known if expression.fullmatch(name)}
    if "hook" in pattern:
        found |= {ours for name, ours in other.items() if expression.fullmatch(name)}
    if not found:
        candidates = other if "hook" in pattern else known
        raise TapError(f"no tap is called {pattern!r}: {nearest(pattern, candidates)}")
    return [name for name in known if name in found]


@lru_cache(maxsize=32)
def aliases(plan: spec.Model) -> dict[str, str]:
    """TransformerLens name -> ours, for every tap of this model that has one."""
    names = sites(plan)
    if not isinstance(plan, spec.Single | spec.Paired):
        return {}  # TransformerLens knows transformers only
    found: dict[str, str] = {}
    stacks = (
        {"encoder.": (plan.encoder, "encoder"), "decoder.": (plan.decoder, "decoder")}
        if isinstance(plan, spec.Paired)
        else {"": (plan.stack, "blocks")}
    )
    for side, (stack, folder) in stacks.items():
        for depth in range(stack.layers):
            ours = f"{side}blocks.{depth}."
            for name, alias in block_aliases(block_at(stack, depth)).items():
                found[f"{folder}.{depth}.{alias}"] = ours + name
        for name, alias in _NORM.items():
            found[f"{folder}_final_ln.{alias}" if side else f"ln_final.{alias}"] = f"{side}final_norm.{name}"
        if side:
            found[f"{folder}.0.attn.rel_pos_hook"] = f"{side}bias"
    first = next(iter(stacks))
    for name, alias in (("token", "embed"), ("position", "pos_embed"), ("segment", "token_type_embed")):
        found[f"hook_{alias}"] = found[f"embed.hook_{alias}"] = f"{first}input.{name}"
    found["hook_full_embed"] = f"{first}input.out"
    for name, alias in _NORM.items():
        found[f"embed.ln.{alias}"] = f"{first}input.norm.{name}"
    if isinstance(plan.head, spec.NextToken):
        if plan.head.cap is None:
            found["unembed.hook_out"] = "logits"
        if plan.head.transform is None and plan.head.scale == 1.0:
            last = list(stacks)[-1]
            depth = stacks[last][0].layers - 1
            normed = f"{last}final_norm.out"
            found["unembed.hook_in"] = normed if normed in names else f"{last}blocks.{depth}.out"
    return {alias: name for alias, name in found.items() if name in names}


def block_at(stack: spec.Stack, depth: int) -> spec.Block:
    """The plan of the block that runs at a depth."""
    own = stack.distinct or stack.layers
    return stack.blocks[depth % own % len(stack.blocks)]


def block_aliases(block: spec.Block) -> dict[str, str]:
    """Our name -> TransformerLens', both relative to the block.

    Left out: what TransformerLens reads where we have no tap (the sums in front of a post-norm) and what it
    computes only on request (`hook_result`, `hook_q_input`, `hook_mlp_in`, ...).
    """
    after = "_norm_after.out" if block.order == "sandwich" else ""
    found = {"in": "hook_resid_pre", f"mixer{after}" if after else "attn.out": "hook_attn_out"}
    found[f"ffn{after}" if after else "ffn.out"] = "hook_mlp_out"
    found["out"] = "hook_normalized_resid_post" if block.order == "post" else "hook_resid_post"
    if block.order in ("pre", "sandwich"):
        found["mid"] = "hook_resid_mid"
    if block.cross is not None:
        found["cross.out"] = "hook_cross_attn_out"
        if block.order == "pre":
            found["crossed"] = "hook_resid_mid_cross"
    norms = ["mixer", "ffn"] if block.cross is None else ["mixer", "cross", "ffn"]
    for number, name in enumerate(norms, 1):
        for ours, theirs in _NORM.items():
            found[f"{name}_norm.{ours}"] = f"ln{number}.{theirs}"
            found[f"{name}_norm_after.{ours}"] = f"ln{number}_post.{theirs}"
    for ours, theirs in _SUBLAYER.items():
        found[f"attn.{ours}"] = f"attn.{theirs}"
        found[f"cross.{ours}"] = f"cross_attn.{theirs}"
    if isinstance(block.ffn, spec.GatedMLP):
        found |= {"ffn.gate": "mlp.hook_pre", "ffn.up": "mlp.hook_pre_linear"}
    else:
        found["ffn.up"] = "mlp.hook_pre"
    found["ffn.hidden"] = "mlp.hook_post"
    return found
