"""A token mixer from outside the package: each channel is mixed over the past by weights of its own.

H3 and its relatives mix by long convolutions; this is the shortest of them. Use it with
`--plugin token_mixer.py` or by importing this file; its kind in TOML is `Convolution`. It decodes with a
cache and says so: one that does not say `decodes = True` trains all the same, but `model.start` refuses it.

B batch   L position   M position, the cached ones included   D width   E those within reach
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cutaway import spec
from cutaway.nn import register
from cutaway.tap import Tap, off


@dataclass(frozen=True)
class Convolution(spec.Mixer):
    """A causal depthwise convolution over the last `reach` positions, then a projection."""

    reach: int = 4


class ConvolutionMixer(nn.Module):
    ends_in = "out"  # the projection that writes into the residual stream, for its initial values
    decodes = True  # forward uses its cache

    def __init__(self, plan: Convolution, width: int):
        super().__init__()
        self.reach = plan.reach
        self.kernel = nn.Parameter(torch.empty(width, plan.reach))
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BLD: Tensor, *, mask=None, rotation=None, cache=None, tap: Tap = off) -> Tensor:
        """(B, L, D) -> (B, L, D). Taps mixed, out."""
        if mask is not None and mask.dead is not None:  # padding in front: nothing is there to be mixed
            x_BLD = x_BLD.masked_fill(mask.dead[:, 0], 0.0)
        x_BMD = x_BLD
        if cache is not None:  # made for attention's keys and values, (B, G, M, K) each: here both are x
            x_BMD = cache.extend(x_BLD[:, None], x_BLD[:, None])[0][:, 0]
        reached = x_BLD.size(1) + self.reach - 1
        x_BDE = F.pad(x_BMD.mT[..., -reached:], (max(0, reached - x_BMD.size(1)), 0))
        mixed_BLD = tap("mixed", F.conv1d(x_BDE, self.kernel[:, None], groups=x_BLD.size(-1)).mT)
        return tap("out", self.out(mixed_BLD))


register(Convolution, ConvolutionMixer)
