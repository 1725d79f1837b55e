"""What the tests of kernels share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import wat


@pytest.fixture(params=[wat.NativeKernel, wat.ReferenceKernel], scope="module")
def each_kernel(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test of the module runs with one kernel, then with the other: `wat.fresh` and `wat.opened` make it."""
    before, wat.Tested.kind = wat.Tested.kind, request.param
    yield
    wat.Tested.kind = before
