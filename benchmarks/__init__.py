"""Cutaway beside its peers: `python -m benchmarks NAME`, or `make bench ONLY=NAME`; not part of the tests."""
