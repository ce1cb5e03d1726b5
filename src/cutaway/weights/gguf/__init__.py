"""GGUF files: an own strict reader of what they say, the library's arithmetic for what they hold."""

from cutaway.weights.gguf.header import Gguf, TensorInfo, read_gguf
from cutaway.weights.gguf.hugging_face import hugging_face
from cutaway.weights.gguf.values import read_tensor

__all__ = ["Gguf", "TensorInfo", "hugging_face", "read_gguf", "read_tensor"]
