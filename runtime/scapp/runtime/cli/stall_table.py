"""What `scapp test --stall` prints: for each test a table of what is paid at every moment, and what silence gains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scapp.runtime.cli.common import table

if TYPE_CHECKING:
    from scapp.runtime.app_test import Report
    from scapp.runtime.stalling import AssetStalls

STEP_CHARACTERS_MAX = 60


def stall_text(reports: Mapping[str, Report]) -> str:
    """One section for each test."""
    parts = []
    for name, report in reports.items():
        if not report.stalls:
            parts.append(f"{name}: no outcome slots, so the chain pays nothing")
        for found in report.stalls:
            if found.moments:  # none when the opening was refused
                parts.append(f"{name}, asset {found.asset}\n\n{_paid(found)}\n\n{_gains(found)}")
    legend = (
        "Paid if nothing after that entry is ever signed, whoever falls silent.\n"
        "`95 +5`: refusing to sign the next entry pays that one 5 more than signing it."
    )
    return "\n\n" + "\n\n".join([*parts, legend])


def _paid(found: AssetStalls) -> str:
    names = list(found.moments[0].paid)
    others = any(moment.others for moment in found.moments)
    rows = []
    for moment in found.moments:
        step = moment.step if len(moment.step) <= STEP_CHARACTERS_MAX else moment.step[: STEP_CHARACTERS_MAX - 1] + "…"
        cells = [_cell(moment.paid[name], moment.stallers[name].over_next) for name in names]
        rows.append([moment.entries - 1, step, *cells, *([moment.others] if others else [])])
    headers = ("entry", "last signed", *names, *(["others"] if others else []))
    return table(headers, rows, right=(0, *range(2, len(headers))))


def _cell(paid: int, over_next: int | None) -> str:
    return f"{paid} +{over_next}" if over_next is not None and over_next > 0 else str(paid)


def _gains(found: AssetStalls) -> str:
    rows = []
    for name in found.moments[0].paid:
        best = max(found.moments, key=lambda moment: moment.stallers[name].over_end)
        refused = [m for m in found.moments if (m.stallers[name].over_next or 0) > 0]
        worst = max((m.stallers[name].others_lose for m in found.moments), default=0)
        most = max(refused, key=lambda m: m.stallers[name].over_next or 0, default=None)
        step = "nothing" if most is None else f"{most.stallers[name].over_next} at entry {most.entries}"
        end = best.stallers[name].over_end
        rows.append((name, step, f"{end} after entry {best.entries - 1}" if end > 0 else "nothing", worst))
    headers = ("staller", "gains most by refusing", "gains most over the end", "most that another loses")
    return table(headers, rows, right=(3,))
