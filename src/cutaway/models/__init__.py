"""The assembled models."""

from cutaway.models.build import AnyModel, build, count_parameters
from cutaway.models.pair import Pair
from cutaway.models.paired import Paired
from cutaway.models.recurrence import Recurrence
from cutaway.models.seq2seq import Seq2Seq
from cutaway.models.single import Single
from cutaway.models.sites import sites

__all__ = [
    "AnyModel",
    "Pair",
    "Paired",
    "Recurrence",
    "Seq2Seq",
    "Single",
    "build",
    "count_parameters",
    "sites",
]
