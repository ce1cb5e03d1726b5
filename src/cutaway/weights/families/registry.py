"""Which families there are, by the `model_type` of their config.json."""

from cutaway.errors import nearest
from cutaway.weights.config import Table
from cutaway.weights.families import bert, gpt2, llama, marian, t5, vit
from cutaway.weights.families.family import Family

FAMILIES: dict[str, Family] = {
    family.model_type: family for module in (gpt2, llama, bert, t5, marian, vit) for family in module.FAMILIES
}


def family_of(table: Table) -> Family:
    """The family that a config names. FileFormatError, with the nearest name, for one that is not built."""
    word = table.take("model_type")
    if not isinstance(word, str) or word not in FAMILIES:
        raise table.refuse("model_type", f"{word!r} is not built; {nearest(str(word)[:40], FAMILIES)}")
    return FAMILIES[word]
