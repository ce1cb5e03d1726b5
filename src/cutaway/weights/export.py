"""A model written as a Hugging Face folder: what transformers reads as the same function.

config.json, generation_config.json   of the family that says what the spec says
model.safetensors                      in that family's layout and names
tokenizer.json, tokenizer_config.json  and, of a folder that was loaded, its other tokenizer files
modules.json, 1_Pooling/config.json    where that was an encoder of sentence-transformers
chat_template.jinja                    where the model came with one
README.md                              the model card; of a run also its recipe.toml
manifest.json                          sizes and checksums, as in every folder that Cutaway writes
"""

import json
import shutil
from pathlib import Path
from typing import Any

from cutaway.data.chat import TEMPLATE
from cutaway.data.masking import mask_id
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import ConfigError
from cutaway.models import AnyModel
from cutaway.models.adapt import merged_weights
from cutaway.store import read_object, write_folder
from cutaway.weights.card import write_card
from cutaway.weights.keys import write_keys
from cutaway.weights.published import publish
from cutaway.weights.run import NAME
from cutaway.weights.safe import NAMES, put_tensors
from cutaway.weights.sentences import describing

LENGTH = 2048  # positions, where nobody knows how many a model was trained with
CONFIG, GENERATION, WEIGHTS, CARD = "config.json", "generation_config.json", "model.safetensors", "README.md"
RECIPE = "recipe.toml"
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt"),
    *("vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("source.spm", "target.spm"),
    *(TEMPLATE, "preprocessor_config.json", "sentence_bert_config.json"),
)
IDS = ("bos", "eos", "pad", "decoder_start", "forced_bos", "forced_eos", "sep", "cls", "mask", "unk")


def save_pretrained(
    model: AnyModel,
    tokenizer: Tokenizer | None,
    folder: str | Path,
    *,
    length: int | None = None,
    labels: tuple[str, ...] = (),
    origin: Path | None = None,
    template: str | None = None,
) -> Path:
    """Writes a new folder and returns it; adapters are merged into the weights that they belong to.

    `length` is how many positions the model was trained with. `origin` is where it came from: of a Hugging
    Face folder the tokenizer's files and token ids are taken over, of a run the card tells. `template` is the
    chat template of what came from no such folder. The weights keep their type. Raises ConfigError, naming
    what does not fit, for a model without a published architecture, OutputExistsError where the folder
    exists, SaveError where it cannot be written; then nothing is left.
    """
    folder = Path(folder)
    published = publish(model.plan, length or LENGTH, labels)
    own = merged_weights(model)
    dtypes = {tensor.dtype for tensor in own.values()}
    if len(dtypes) > 1 or dtypes - NAMES.keys():
        raise ConfigError(f"weights of {', '.join(map(str, sorted(dtypes, key=str)))}: give them one type")
    word = str(dtypes.pop()).removeprefix("torch.")
    config = published.config | {"dtype": word, "torch_dtype": word, "use_cache": True}
    files, ids = (
        carried(origin) if tokenizer is None or came_from_folder(origin) else ([], own_ids(tokenizer))
    )
    config |= ids
    texts = {CONFIG: config, GENERATION: generation(config, ids, origin)}
    if not files and tokenizer is not None:
        texts["tokenizer_config.json"] = describe(tokenizer, length)
    run = run_of(origin)
    card = write_card(config, sum(tensor.numel() for tensor in own.values()), run)
    tensors = write_keys(published.family.keys(model.plan), own)

    def fill(beside: Path) -> None:
        for name, table in texts.items():
            if table is not None:
                told = json.dumps(table, indent=2, ensure_ascii=False) + "\n"
                (beside / name).write_text(told, encoding="utf-8")
        for file in files:
            copy = beside / file.relative_to(origin or file.parent)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, copy)
        if not files and tokenizer is not None:
            (beside / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
        if not files and template is not None:
            (beside / TEMPLATE).write_text(template, encoding="utf-8", newline="")
        if run is not None:
            shutil.copyfile(run / RECIPE, beside / RECIPE)
        (beside / CARD).write_text(card, encoding="utf-8")
        with open(beside / WEIGHTS, "xb") as file:
            put_tensors(file, tensors, {"format": "pt"})

    need = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    write_folder(folder, fill, need=need)
    return folder


def run_of(origin: Path | None) -> Path | None:
    """The run that a model came from: the folder, or the one whose checkpoint it is."""
    if origin is not None and NAME.fullmatch(origin.resolve().name):
        origin = origin.resolve().parents[1]
    return origin if origin is not None and (origin / RECIPE).is_file() else None


def came_from_folder(origin: Path | None) -> bool:
    """Whether a model was read from a Hugging Face folder."""
    return origin is not None and (origin / CONFIG).is_file()


def carried(origin: Path | None) -> tuple[list[Path], dict[str, Any]]:
    """The tokenizer's files of a Hugging Face folder, those of a sentence encoder, and the token ids that its
    config names.
    """
    if origin is None or not came_from_folder(origin):
        return [], {}
    table = read_object(origin / CONFIG)
    keys = [f"{name}_token_id" for name in IDS]
    files = [origin / name for name in TOKENIZER_FILES if (origin / name).is_file()]
    return files + describing(origin), {key: table[key] for key in keys if key in table}


def own_ids(tokenizer: Tokenizer | None) -> dict[str, Any]:
    """The token ids that a config names, of a tokenizer of ours; null where it has none."""
    if tokenizer is None:
        return {}
    begin = tokenizer.start if tokenizer.begin is None else tokenizer.begin
    ends = sorted(tokenizer.ends)
    end = ends if len(ends) > 1 else tokenizer.end
    ids = {"bos_token_id": begin, "eos_token_id": end, "pad_token_id": tokenizer.pad}
    return ids | ({} if tokenizer.start is None else {"decoder_start_token_id": tokenizer.start})


def generation(config: dict[str, Any], ids: dict[str, Any], origin: Path | None) -> dict[str, Any] | None:
    """The generation config: that of the origin, or the token ids; None for what writes no text."""
    if origin is not None and came_from_folder(origin) and (origin / GENERATION).is_file():
        return read_object(origin / GENERATION)
    writes = config["architectures"][0].endswith(("LMHeadModel", "ForCausalLM", "Generation", "MTModel"))
    return {key: value for key, value in ids.items() if value is not None} if writes else None


def describe(tokenizer: Tokenizer, length: int | None) -> dict[str, Any]:
    """The tokenizer_config.json of a tokenizer of ours."""
    begin = tokenizer.start if tokenizer.begin is None else tokenizer.begin
    named = {"bos_token": begin, "eos_token": tokenizer.end, "pad_token": tokenizer.pad}
    named |= {"unk_token": tokenizer.unknown, "mask_token": mask_id(tokenizer)}
    table = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": length or LENGTH,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    return table | {key: tokenizer.names[number] for key, number in named.items() if number is not None}
