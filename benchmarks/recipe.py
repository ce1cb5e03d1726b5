"""The optimizer settings of every training step compared here: nanoGPT's defaults, with a short warm-up."""

LEARNING_RATE = 3e-4
WARM_UP_STEPS = 10
BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1
CLIP = 1.0
BATCHES = 48  # different batches before the text repeats


def learning_rate(step: int) -> float:
    return LEARNING_RATE * min(1.0, (step + 1) / WARM_UP_STEPS)
