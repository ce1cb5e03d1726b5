"""Llama 3's stretched rotation, which a GGUF file keeps as a factor for each frequency.

Hugging Face keeps the three numbers that the factors were made from. They are found again by making the
factors anew: wavelengths beyond `original / low` are stretched by `factor`, those under `original / high` not
at all, between the two the reciprocals are mixed (Llama 3.1, Meta 2024).
"""

from pathlib import Path
from typing import Any

import numpy as np

from cutaway.errors import FileFormatError

FREQUENCIES = "rope_freqs.weight"
LOW, HIGH, ORIGINAL = 1.0, 4.0, 8_192  # of every model Meta published
TOLERANCE = 1e-4


def stretch(path: Path, factors: np.ndarray, theta: float, width: int) -> dict[str, Any]:
    """Hugging Face's `rope_scaling` of factors; FileFormatError where they are not of Llama 3's making."""
    factor = float(factors.max()) if np.isfinite(factors).all() else 0.0
    if factor < 1 or not np.allclose(factors, llama3_factors(factor, theta, width), rtol=TOLERANCE):
        told = f"{FREQUENCIES} stretches the rotation in a way that is not Llama 3's"
        raise FileFormatError(path, f"{told}; it cannot be represented here")
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": LOW,
        "high_freq_factor": HIGH,
        "original_max_position_embeddings": ORIGINAL,
    }


def llama3_factors(factor: float, theta: float, width: int) -> np.ndarray:
    """By what each of the width / 2 angles is divided."""
    wavelengths = 2 * np.pi * theta ** (np.arange(0, width, 2) / width)
    smooth = np.clip((ORIGINAL / wavelengths - LOW) / (HIGH - LOW), 0, 1)
    return 1 / ((1 - smooth) / factor + smooth)
