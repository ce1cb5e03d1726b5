"""The cache that Hugging Face's programs share is where they have it."""

from pathlib import Path

import pytest

from cutaway.weights.hub import cache

WHERE = {
    "nothing said": ({}, "~/.cache/huggingface/hub"),
    "XDG_CACHE_HOME": ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
    "HF_HOME": ({"XDG_CACHE_HOME": "/x", "HF_HOME": "~/models"}, "~/models/hub"),
    "HF_HUB_CACHE": ({"HF_HOME": "/y", "HF_HUB_CACHE": "~/hub"}, "~/hub"),
}


@pytest.mark.parametrize("name", WHERE)
def test_the_cache_is_found(name, monkeypatch):
    for key in ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(key, raising=False)
    said, where = WHERE[name]
    for key, value in said.items():
        monkeypatch.setenv(key, value)
    assert cache() == Path(where).expanduser()
