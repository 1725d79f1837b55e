"""What a seed means for nodes with ledgers: how many in a row, which faults, who is hostile, and a list of acts.

As in `../plan.py` everything is drawn before anything is played, and each act has randomness of its own.
"""

from __future__ import annotations

import random

import msgspec

from tests.simulation.plan import Act

HOSTILE_ACTS = (
    "wrong guarantee",
    "wrong end",
    "withheld signature",
    "replay",
    "silence",
    "malformed bytes",
    "stale ledger",
    "stale channel",
    "foreign voucher",
    "false standing",
)
LOCK_TRICKS = ("withheld payment", "withheld lock", "worse voucher", "false failure")
"""What she does with locks now and then, from the act "bad locks" on."""


class HubPlan(msgspec.Struct, frozen=True):
    """One life of `count` nodes in a row, each with a ledger with the next one. `hostile` is a node's index or -1,
    `restored` are nodes that may come back from a backup, two of them perhaps at once."""

    seed: int
    count: int
    drops: float
    duplicate: float
    delay_ms: int
    hostile: int
    restored: tuple[int, ...]
    bad_disks: bool
    skew_ms: int
    calm: bool  # the faults begin once the ledgers run
    leads: tuple[bool, ...]  # of each ledger: does the left node lead?
    acts: tuple[Act, ...]
    locks: bool = False  # are invoices paid?


def draw_hub_plan(seed: int) -> HubPlan:
    """The plan of a seed."""
    draw = random.Random(f"hubs {seed}")
    count = draw.choice([2, 3, 3, 3, 4, 5])
    hostile = draw.randrange(count) if draw.random() < 0.4 else -1
    restores = hostile < 0 and draw.random() < 0.5
    bad_disks = hostile < 0 and not restores and draw.random() < 0.2
    restored = tuple(sorted(draw.sample(range(count), draw.choice([1, 1, 2])))) if restores else ()
    acts = []
    for _ in range(draw.randrange(10, 60)):
        kind, number, text = _act(draw, hostile=hostile >= 0, restores=restores, bad_disks=bad_disks)
        acts.append(Act(kind, draw.randrange(count), number, draw.getrandbits(32), text))
    locks = _put_locks(acts, seed, count, hostile=hostile >= 0)
    return HubPlan(
        seed=seed,
        count=count,
        drops=draw.choice([0, 0, 0.02, 0.1]),
        duplicate=draw.choice([0, 0.05, 0.3]),
        delay_ms=draw.choice([0, 0, 10, 60]),
        hostile=hostile,
        restored=restored,
        bad_disks=bad_disks,
        skew_ms=draw.choice([-20_000, 20_000]) if draw.random() < 0.1 else 0,
        calm=draw.random() < 0.85,
        leads=tuple(_leads(draw, left, hostile) for left in range(count - 1)),
        acts=tuple(acts),
        locks=locks,
    )


def _put_locks(acts: list[Act], seed: int, count: int, *, hostile: bool) -> bool:
    """Into some lives, between their other acts: lanes at first, then invoices. Does this one have them?"""
    draw = random.Random(f"locks {seed}")
    if draw.random() > 0.3:
        return False
    for _ in range(4):  # time in which locks end
        acts.insert(draw.randrange(len(acts) + 1), Act("later", 0, 39, draw.getrandbits(32)))
    for _ in range(draw.randrange(10, 30) if hostile else draw.randrange(6, 20)):
        kind, text = "invoice", ""
        if hostile and draw.random() < 0.2:
            kind, text = "mallory", "bad locks"
        act = Act(kind, draw.randrange(count), draw.randrange(1, 40), draw.getrandbits(32), text)
        acts.insert(draw.randrange(len(acts) + 1), act)
    acts += [Act("later", 0, 39, draw.getrandbits(32)) for _ in range(2)]
    for left in range(count - 1):
        for payer, payee in ((left, left + 1), (left + 1, left)):
            acts.insert(draw.randrange(4), Act("lane", payer, payee, draw.getrandbits(32)))
    return True


def _leads(draw: random.Random, left: int, hostile: int) -> bool:
    """Does the left node lead its ledger with the right one? Whoever leads has more to say, so Mallory often does."""
    if hostile in (left, left + 1) and draw.random() < 0.6:
        return hostile == left
    return draw.random() < 0.5


def _act(draw: random.Random, *, hostile: bool, restores: bool, bad_disks: bool) -> tuple[str, int, str]:
    """Kind, number and text of one act."""
    if hostile and draw.random() < 0.3:
        return "mallory", draw.randrange(1, 6), draw.choice(HOSTILE_ACTS)
    if restores and draw.random() < 0.15:
        return draw.choice(["backup", "restore"]), draw.randrange(2), ""
    if bad_disks and draw.random() < 0.08:
        return draw.choice(["disk full", "sync fails"]), 0, ""
    what = draw.random()
    if what < 0.12:
        return "open", draw.randrange(1, 60), ""
    if what < 0.16:
        return "open routed", draw.randrange(1, 60), ""
    if what < 0.40:
        return "pay", draw.choice([1, 1, 1, 4]), ""
    if what < 0.44:
        return "end", 0, ""
    if what < 0.47:
        return "app", draw.randrange(1, 30), ""
    if what < 0.52:
        return "say", 0, ""
    if what < 0.66:
        return "wait", draw.choice([1, 1, 3, 10, 40]), ""
    if what < 0.74:
        return "block", draw.randrange(4), ""
    if what < 0.81:
        return draw.choice(["crash soon", "crash soon", "crash or start"]), draw.randrange(1, 6), ""
    if what < 0.86:
        return "well", 0, ""
    return draw.choice(
        [
            "transfer", "top up", "reset", "part", "stop", "slow disk", "clock", "later", "reorganisation", "blind",
            "leave", "close", "ledger",
        ]
    ), draw.randrange(1, 40), ""  # fmt: skip
