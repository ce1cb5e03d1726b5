"""Unit tests run under the shape watcher: a tensor named q_BHLK has four axes, and each letter one size."""

from collections.abc import Iterator

import pytest

from tests.house.shapes import ShapeWatch


@pytest.fixture(autouse=True)
def names_tell_shapes(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("compiled"):
        yield
        return
    with ShapeWatch() as watch:
        yield
    if watch.problems:
        pytest.fail("names that do not tell the shape:\n" + "\n".join(watch.problems), pytrace=False)
