"""Vocabularies of every kind a checkpoint may come with, each turned into a `Tokenizer`; a file for each
kind.
"""

from cutaway.data.vocabularies.folder import read_vocabulary
from cutaway.data.vocabularies.gguf import gguf_vocabulary
from cutaway.data.vocabularies.llama2c import llama2c_vocabulary

__all__ = ["gguf_vocabulary", "llama2c_vocabulary", "read_vocabulary"]
