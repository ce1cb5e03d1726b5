"""What every test may rely on: one thread, no network, the same examples from hypothesis each time."""

import os

# Before anything imports torch: two test processes share the cores, and more threads would only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True, database=None)
settings.load_profile("house")
