"""Low-rank adapters in the layout of the peft library, written and read.

adapter_config.json          rank, alpha, dropout, and the names of the modules that are adapted
adapter_model.safetensors    base_model.model.MODULE.lora_A.weight (E, D) and .lora_B.weight (V, E), and
                             base_model.model.NAME for parameters of `modules_to_save`

MODULE is a module of transformers: the family's key map says which of our matrices it holds. Where that is
several side by side, as GPT-2's c_attn holds query, key and value, an adapter of theirs is one for each of
ours with the same A; adapters of ours are one of theirs with all their ranks, B in blocks.

E rank   D input   V output
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from cutaway.errors import ConfigError, FileFormatError, InputMissingError, nearest
from cutaway.models import AnyModel
from cutaway.models.adapt import A, B, adaptable, adapters, insert, merged_weights, trained
from cutaway.nn.lora import LowRank
from cutaway.store import write_folder
from cutaway.weights.keys import KeyMap, Row, bare, expand
from cutaway.weights.peft_config import read_asked
from cutaway.weights.pickled import check_not_pickled
from cutaway.weights.published import Published, publish
from cutaway.weights.safe import put_tensors, read_tensors

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PREFIX, LORA_A, LORA_B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
LENGTH = 2048  # positions, where nobody knows how many a model was trained with; no adapter depends on it
TASKS = {
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "MTModel": "SEQ_2_SEQ_LM",
}
RENAMED = frozenset(("vit",))


def save_adapter(model: AnyModel, folder: str | Path, *, base: str = "", length: int | None = None) -> Path:
    """Writes the adapters of a model, and what is trained whole beside them, as a new folder; returns it.

    `base` is what peft should load as the model they belong to. Raises ConfigError where there are none,
    where the model has no published architecture, or where peft could not train the same whole.
    """
    folder, layers = Path(folder), adapters(model)
    if not layers:
        raise ConfigError("adapter: this model has none; save_pretrained writes all of it")
    published = published_as(model, length or LENGTH)
    keys, own = published.family.keys(model.plan), merged_weights(model)
    rows = expand(keys, own)
    tensors: dict[str, Tensor] = {}
    kinds: dict[str, tuple[int, float]] = {}
    for row in rows:
        parts = [(layers.get(name.removesuffix(".weight")), own[name].shape[0]) for name in row.ours]
        if row.theirs.endswith(".weight") and any(layer for layer, _ in parts):
            module = row.theirs.removesuffix(".weight")
            a_ED, b_VE, kinds[module] = side_by_side(parts)
            tensors |= {f"{PREFIX}{module}{LORA_A}": a_ED, f"{PREFIX}{module}{LORA_B}": b_VE}
    kept = kept_whole(model, keys, rows, own)
    tensors |= {f"{PREFIX}{name}": tensor for name, tensor in kept.items()}
    (rank, alpha), _ = Counter(kinds.values()).most_common(1)[0]
    config = {
        "peft_type": "LORA",
        "task_type": next(
            (task for end, task in TASKS.items() if published.config["architectures"][0].endswith(end)), None
        ),
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": max(layer.dropout for layer in layers.values()),
        "target_modules": short_names(kinds, rows),
        "modules_to_save": sorted({name.rpartition(".")[0] for name in kept}) or None,
        "rank_pattern": {name: kind[0] for name, kind in kinds.items() if kind[0] != rank},
        "alpha_pattern": {name: kind[1] for name, kind in kinds.items() if kind[1] != alpha},
        "fan_in_fan_out": published.family.model_type == "gpt2",  # its matrices lie turned
        "bias": "none",
        "inference_mode": True,
    }

    def fill(beside: Path) -> None:
        (beside / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        with open(beside / WEIGHTS, "xb") as file:
            put_tensors(file, tensors, {"format": "pt"})

    write_folder(folder, fill, need=sum(each.numel() * each.element_size() for each in tensors.values()))
    return folder


def published_as(model: AnyModel, length: int) -> Published:
    """The family whose modules peft adapts; ConfigError for one whose modules the key map does not name."""
    found = publish(model.plan, length)
    if found.family.model_type in RENAMED:
        raise ConfigError(
            f"adapter: {found.family.model_type} has other names in memory than in files since "
            "transformers 5, and peft goes by the former; merge the adapter by save_pretrained"
        )
    return found


def side_by_side(
    parts: Sequence[tuple[LowRank | None, int]],
) -> tuple[Tensor, Tensor, tuple[int, float]]:
    """One adapter (E, D), (V, E), its rank and alpha, for matrices that lie one after the other in one of
    theirs: for each its own, if it has one, and how many outputs it has.
    """
    layers = [layer for layer, _ in parts if layer is not None]
    a_ED = torch.cat([layer.lora_a.detach() for layer in layers])
    b_VE = a_ED.new_zeros(sum(size for _, size in parts), a_ED.size(0))
    scale, row, column = layers[0].scale, 0, 0
    for layer, size in parts:
        if layer is not None:
            b_VE[row : row + size, column : column + layer.rank] = layer.lora_b.detach() * (
                layer.scale / scale
            )
            column += layer.rank
        row += size
    return a_ED, b_VE, (a_ED.size(0), scale * a_ED.size(0))


def kept_whole(
    model: AnyModel, keys: KeyMap, rows: Sequence[Row], own: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of modules that are trained as they are; ConfigError for half a module, or a tied one."""
    whole = {name for name in trained(model) if name.rpartition(".")[2] not in (A, B)}
    found, modules = {}, set()
    for row in rows:
        if set(row.ours) & whole:
            found[row.theirs] = row.layout.join([own[name] for name in row.ours])
            modules.add(row.theirs.rpartition(".")[0])
    for row in rows:
        if row.theirs.rpartition(".")[0] in modules and not set(row.ours) <= whole:
            raise ConfigError(
                f"adapter: {row.ours[0]} stands still, but peft trains its module whole: name all of it in "
                "adapter.whole, or none"
            )
        if row.theirs in found and row.theirs in {original for _, original in keys.copies}:
            raise ConfigError(f"adapter: {row.ours[0]} is tied to the head, which peft would untie")
    return found


def short_names(modules: Mapping[str, object], rows: Sequence[Row]) -> list[str]:
    """The modules as `target_modules` has them: the ends of their names where all that end so are meant."""
    known = {row.theirs.rpartition(".")[0] for row in rows}
    found = set()
    for name in modules:
        end = name.rpartition(".")[2]
        alike = {other for other in known if other == end or other.endswith(f".{end}")}
        found.add(end if alike <= modules.keys() else name)
    return sorted(found)


def read_adapter(model: AnyModel, folder: str | Path) -> None:
    """Puts the adapters of a folder in peft's layout into the model that they belong to; only they, and what
    was trained whole beside them, can then be trained.

    Raises InputMissingError where there are none, FileFormatError, naming file and rule, where one is
    damaged, does not fit the model or does what is not built; ConfigError for a model that has adapters
    already.
    """
    folder = Path(folder)
    if adapters(model):
        raise ConfigError(f"adapter: the model has adapters already; load what {folder} belongs to")
    path = folder / WEIGHTS
    if not path.is_file() and (folder / PICKLED).is_file():
        check_not_pickled(folder / PICKLED, (folder / PICKLED).read_bytes()[:9])
    if not path.is_file() or not (folder / CONFIG).is_file():
        raise InputMissingError(f"{folder}: has no {CONFIG} with {WEIGHTS}; give the folder of an adapter")
    asked = read_asked(folder / CONFIG)
    keys = published_as(model, LENGTH).family.keys(model.plan)
    own = dict(model.named_parameters())
    rows = {bare(keys, row.theirs): row for row in expand(keys, own)}
    pairs, others = sorted_out(path, read_tensors(path), rows, keys, set(adaptable(model)))
    for name, tensors in pairs.items():
        check_pair(path, name, tensors, [own[each].shape for each in rows[name].ours])
        asked.check(name.removesuffix(".weight"), rank=tensors[0].size(0))
    asked.check_whole(*({name.rpartition(".")[0] for name in names} for names in (others, rows)))
    for name, tensor in others.items():
        shapes = [tuple(own[each].shape) for each in rows[name].ours]
        if tuple(tensor.shape) != rows[name].layout.shape(shapes):
            raise FileFormatError(path, f"{name} has shape {tuple(tensor.shape)}, not that of the model's")
    model.requires_grad_(False)
    with torch.no_grad():
        for name, tensor in others.items():
            row = rows[name]
            shapes = [tuple(own[each].shape) for each in row.ours]
            for each, value in zip(row.ours, row.layout.cut(tensor, shapes), strict=True):
                own[each].copy_(value)
                own[each].requires_grad_(True)
        for name, (a_ED, b_VE) in pairs.items():
            row, rank = rows[name], a_ED.size(0)
            scale = asked.scale(name.removesuffix(".weight"), rank)
            for each, b in zip(row.ours, b_VE.split([own[n].shape[0] for n in row.ours]), strict=True):
                layer = insert(model, each.removesuffix(".weight"), rank, scale * rank, asked.dropout)
                layer.lora_a.copy_(a_ED)
                layer.lora_b.copy_(b)


def sorted_out(
    path: Path, tensors: Mapping[str, Tensor], rows: Mapping[str, Row], keys: KeyMap, able: set[str]
) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Tensor]]:
    """The A and B of each of their weights, and the tensors that are weights themselves, by bare name; `able`
    are our layers that can have an adapter.

    Raises FileFormatError for a tensor of no module of the model, and for A or B alone.
    """
    halves: dict[str, dict[str, Tensor]] = {}
    others: dict[str, Tensor] = {}
    for said, tensor in tensors.items():
        end = next((end for end in (LORA_A, LORA_B) if said.endswith(end)), "")
        name = bare(keys, said.removesuffix(end).removeprefix(PREFIX)) + (".weight" if end else "")
        if name not in rows or (
            end and not {each.removesuffix(".weight") for each in rows[name].ours} <= able
        ):
            raise FileFormatError(
                path,
                f"{said[:120]!r} is of no module of this model that could have it; {nearest(name, rows)}",
            )
        if not tensor.is_floating_point() or tensor.element_size() < 2:
            raise FileFormatError(
                path, f"{said[:120]!r} is {tensor.dtype}, no floating-point number of 16 bits"
            )
        if end:
            halves.setdefault(name, {})[end] = tensor
        else:
            others[name] = tensor
    for name, found in halves.items():
        if len(found) < 2:
            raise FileFormatError(path, f"{name}: {next(iter(found))[1:]} is there without the other")
    if not halves:
        raise FileFormatError(path, "holds no adapter")
    return {name: (found[LORA_A], found[LORA_B]) for name, found in halves.items()}, others


def check_pair(path: Path, name: str, pair: tuple[Tensor, Tensor], shapes: Sequence[torch.Size]) -> None:
    """FileFormatError where A and B do not fit the matrices that they are for."""
    a, b = (tuple(tensor.shape) for tensor in pair)
    wanted = sum(shape[0] for shape in shapes), shapes[0][-1]
    fits = len(a) == len(b) == 2 and a[0] == b[1] >= 1 and (b[0], a[1]) == wanted
    if not fits:
        raise FileFormatError(path, f"{name}: A {a} and B {b} do not fit a matrix {wanted}")
