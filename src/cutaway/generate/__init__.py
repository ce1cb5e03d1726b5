"""Writing text with a model: cached decoding, sampling, stop strings, streaming."""

from cutaway.generate.complete import Completion, complete, stream
from cutaway.generate.decode import Decoding
from cutaway.generate.sample import Sampling
from cutaway.generate.stop import StopStrings
from cutaway.generate.stream import TextStream

__all__ = ["Completion", "Decoding", "Sampling", "StopStrings", "TextStream", "complete", "stream"]
