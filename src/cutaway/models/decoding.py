"""Which models decode token by token: those that see the past only, and whose mixers say that they can."""

from cutaway.errors import ConfigError
from cutaway.nn.stack import Stack


def check_decodes(stack: Stack) -> None:
    """Raises ConfigError where a stack sees all positions, or a mixer's class does not say `decodes = True`.

    A mixer that ignored its cache would give wrong logits without a word: so silence counts as no.
    """
    if stack.sees != "past":
        raise ConfigError("this model sees all positions at once: it cannot decode token by token")
    for depth, block in enumerate(stack.blocks):
        mixer = type(block.mixer)
        if not getattr(mixer, "decodes", False):
            raise ConfigError(
                f"blocks.{depth}.mixer: {mixer.__name__} does not decode token by token; a class that uses "
                "its `cache` argument says so by `decodes = True`"
            )
