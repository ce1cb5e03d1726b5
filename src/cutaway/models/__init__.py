"""The assembled models."""

from cutaway.models.build import AnyModel, build, count_parameters
from cutaway.models.paired import Paired
from cutaway.models.single import Single
from cutaway.models.sites import sites

__all__ = ["AnyModel", "Paired", "Single", "build", "count_parameters", "sites"]
