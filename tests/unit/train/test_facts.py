"""What is written down about the machine, and what of it a run that goes on is held against."""

import importlib.metadata
import platform
from pathlib import Path

import pytest

import cutaway
from cutaway.train import facts
from cutaway.train.facts import differing, gather_facts, processor, processor_name

CPUINFO = """processor\t: 0
model name\t: Planted CPU @ 2.00GHz
flags\t\t: fpu avx2 avx512f amx_bf16
"""


@pytest.fixture
def cpuinfo(monkeypatch):
    """Puts words into Linux' mouth; None makes it silent."""

    def say(told: str | None) -> None:
        def read(self: Path, **how: str) -> str:
            if told is None:
                raise FileNotFoundError(self)
            return told

        monkeypatch.setattr(facts.Path, "read_text", read)
        processor.cache_clear()

    yield say
    processor.cache_clear()


def test_the_processor_s_name_and_flags(cpuinfo):
    cpuinfo(CPUINFO)
    assert processor() == ("Planted CPU @ 2.00GHz", {"fpu", "avx2", "avx512f", "amx_bf16"})
    assert processor_name() == "Planted CPU @ 2.00GHz avx512f amx_bf16"
    cpuinfo("Hardware : a board\n")
    assert processor() == (platform.machine(), frozenset())
    cpuinfo(None)
    assert processor().name in (platform.processor(), platform.machine()) and not processor().flags


def test_all_who_name_the_processor_agree(cpuinfo):
    from benchmarks.figure import machine
    from cutaway.app.doctor import processor_flags

    cpuinfo(CPUINFO)
    assert machine().startswith("Planted CPU @ 2.00GHz, ") and ", amx_bf16 avx2 avx512f, " in machine()
    assert processor_flags() == ("avx2", "avx512f", "amx_bf16")


def test_a_checkout_that_is_not_installed_has_facts(monkeypatch):
    def unknown(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", unknown)
    assert gather_facts()["cutaway"] == cutaway.__version__


def test_what_differs_is_told():
    now = gather_facts()
    assert differing(now, now) == []
    assert differing(now | {"torch": "1.0"}, now) == [f"torch was 1.0, is {now['torch']}"]
    assert differing(now | {"commit": "another"}, now) == [], "the numbers need not be others"


def test_another_gpu_is_told_only_where_one_was_used():
    before, now = {"gpu": None, "device": "cpu"}, {"gpu": "a GPU"}
    assert differing(before, now) == []
    assert differing(before | {"gpu": "another", "device": "cuda"}, now) == ["gpu was another, is a GPU"]
