"""Where the writer looked, as a picture: the matrix that Bahdanau et al. (2014) drew in their figure 3.

L target position   M source position
"""

from typing import TYPE_CHECKING

from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import ConfigError
from cutaway.generate.translate import Translation

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_alignment(axes: "Axes", tokenizer: Tokenizer, found: Translation) -> None:
    """Rows are the tokens that were written, columns those that were read; black is a weight of 0, white 1.

    Raises ConfigError for a translation without its alignment.
    """
    if found.alignment is None:
        raise ConfigError("no alignment: ask for it by align=True; a sentence without a word has none")
    rows, columns = ([tokenizer.token_name(token) for token in side] for side in (found.tokens, found.source))
    axes.imshow(found.alignment.weights_LM.numpy(), cmap="gray", vmin=0, vmax=1, aspect="auto")
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="left")
    axes.set_yticks(range(len(rows)), rows)
