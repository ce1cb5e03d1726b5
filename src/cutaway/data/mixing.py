"""Random numbers without a state: one well-mixed 64-bit number for each 64-bit number.

The finaliser of SplitMix64 (Steele, Lea & Flood 2014). Additions and products wrap around, as they should.
"""

import numpy as np


def mix(values: np.ndarray) -> np.ndarray:
    """One to one on 64 bits, elementwise, uint64 to uint64."""
    mixed = np.asarray(values, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def seed_key(seed: int) -> np.ndarray:
    """A seed of any size as one mixed number, uint64 (1,): NumPy would warn where a bare number wraps."""
    return mix(np.array([seed % 2**64], np.uint64))
