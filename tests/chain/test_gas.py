"""Gas of every operation: not above the published contracts', except where a listed difference needs it."""

from __future__ import annotations

import pytest

from tests.chain import gas


@pytest.fixture(scope="module")
def measured():
    """Operation to gas, ours and theirs."""
    return gas.measure(gas.ours), gas.measure(gas.theirs)


def test_no_operation_costs_more_without_a_reason(measured):
    """At most 5 % more, and only where the table names the mend."""
    here, there = measured
    dearer = {name: value / there[name] - 1 for name, value in here.items() if value > there[name]}
    assert dearer.keys() <= gas.MENDS.keys()
    assert max(dearer.values()) <= gas.MOST


def test_the_published_figures_belong_to_operations(measured):
    """None is left over from an operation that is no longer measured."""
    assert gas.FIGURES.keys() <= measured[0].keys()
    assert gas.MENDS.keys() <= measured[0].keys()


def test_the_page_is_current(measured):
    """docs/reference/gas.md says what is measured; if not: `make gas`."""
    assert gas.PAGE.read_text() == gas.HEAD + "\n".join(gas.rows(*measured)) + "\n"
