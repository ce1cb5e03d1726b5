"""The published families: for each one key map and one config reader and writer."""

from cutaway.weights.families.family import Config, Family, Tensors
from cutaway.weights.families.registry import FAMILIES, family_of

__all__ = ["FAMILIES", "Config", "Family", "Tensors", "family_of"]
