"""What a seed means: a network, and a list of acts, each with randomness of its own.

Everything is drawn before anything is played, so an act can be left out without changing what the others draw:
`shrink.py` does that to find a short story of a failure.
"""

from __future__ import annotations

import random

import msgspec

HOSTILE_ACTS = (
    "wrong root",
    "wrong log root",
    "double signing",
    "withheld signature",
    "one peer only",
    "replay",
    "silence",
    "malformed bytes",
    "forged entry",
    "odd proposal",
    "forged full set",
    "wrong signature",
    "refusal",
    "rejection",
)
RARE_ACTS = (
    "stop",
    "decide",
    "part",
    "heal",
    "reset",
    "slow disk",
    "database away",
    "database slow",
    "clock",
)


class Act(msgspec.Struct, frozen=True):
    """Something happens: `node` is whom it concerns, `number` how much or which, `draw` seeds its randomness."""

    kind: str
    node: int
    number: int
    draw: int
    text: str = ""


class Plan(msgspec.Struct, frozen=True):
    """One life. `picky`, `hostile`, `unwilling` and `restored` are node indices or -1."""

    seed: int
    count: int
    loss: float
    duplicate: float
    reorder: float
    delay_ms: int
    forking: bool
    fickle: bool
    picky: int
    hostile: int
    unwilling: int
    kernel: bool
    chain: bool
    bad_disks: bool
    restored: int
    skew_ms: int
    slots: bool
    stillborn: bool  # the opener's first write finds no power
    opened: bool  # the faults begin once the channel is open
    closing: bool
    acts: tuple[Act, ...]
    hubs: int = -1  # of a virtual channel, -1 for any other


def draw_plan(seed: int) -> Plan:
    """The plan of a seed."""
    draw = random.Random(seed)
    forking = draw.random() < 0.15  # a calm network in which somebody changes its mind all the time
    kernel = not forking and draw.random() < 0.2
    chain = not forking and not kernel and draw.random() < 0.4
    hostile = not forking and draw.random() < 0.35
    bad_disks = not forking and not hostile and not chain and draw.random() < 0.2
    restores = not forking and not hostile and not bad_disks and draw.random() < 0.25
    count = draw.choice([3, 4] if forking else [2, 2, 3, 3, 4])
    fickle = draw.random() < 0.3
    acts: list[Act] = []
    for _ in range(draw.randrange(20, 160)):
        if restores and draw.random() < 0.08:
            acts.append(Act(draw.choice(["backup", "backup", "restore"]), 0, 0, draw.getrandbits(32)))
            continue
        kind, number, text = _act(draw, forking=forking, hostile=hostile, bad_disks=bad_disks, chain=chain)
        acts.append(Act(kind, draw.randrange(count), number, draw.getrandbits(32), text))
    planned = Plan(
        seed=seed,
        count=count,
        loss=0 if forking else draw.choice([0, 0, 0.05, 0.3]),
        duplicate=0 if forking else draw.choice([0, 0.1, 0.3]),
        reorder=0 if forking else draw.choice([0, 0.2, 1.0]),
        delay_ms=0 if forking else draw.choice([0, 0, 50, 2_000]),
        forking=forking,
        fickle=fickle,
        picky=1 if draw.random() < 0.4 and not kernel else -1,
        hostile=draw.choice([0, 0, count - 1]) if hostile else -1,
        unwilling=count - 1 if draw.random() < 0.03 else -1,
        kernel=kernel,
        chain=chain,
        bad_disks=bad_disks,
        restored=draw.randrange(count) if restores else -1,
        skew_ms=draw.choice([-50_000, 50_000]) if draw.random() < 0.1 else 0,
        slots=kernel or draw.random() < 0.5,
        stillborn=draw.random() < 0.02,
        opened=draw.random() < (0.9 if chain and hostile else 0.5),
        closing=draw.random() < 0.5,
        acts=tuple(acts),
    )
    virtual = count == 2 and not chain and not forking and draw.random() < 0.5
    return msgspec.structs.replace(planned, hubs=draw.choice([0, 1, 1, 2]), slots=True) if virtual else planned


def _act(draw: random.Random, *, forking: bool, hostile: bool, bad_disks: bool, chain: bool) -> tuple[str, int, str]:
    """Kind, number and text of one act."""
    if hostile and draw.random() < 0.25:
        if chain and draw.random() < 0.3:
            return "mallory", draw.randrange(1, 6), draw.choice(["challenge", "challenge", "final state kept back"])
        return "mallory", draw.randrange(1, 6), draw.choice(HOSTILE_ACTS)
    if chain and draw.random() < 0.3:
        return _chain_act(draw)
    if bad_disks and draw.random() < 0.08:
        return draw.choice(["rot", "disk full", "sync fails", "damaged cut"]), 0, ""
    what = draw.random()
    if what < 0.45:
        return "deliver", draw.randrange(1, 6 if forking else 10), ""
    if what < 0.75:
        return "say", draw.choice([1, 1, 3]), ""
    if what < 0.85 or forking:
        return "wait", draw.choice([100, 2_000, 40_000]), ""
    if what < 0.91:
        return "crash soon", draw.randrange(1, 4), ""
    if what < 0.95:
        return "crash or start", 0, ""
    if what < 0.953:
        return "close", 0, ""
    return draw.choice(RARE_ACTS), 0, ""


def _chain_act(draw: random.Random) -> tuple[str, int, str]:
    what = draw.random()
    if what < 0.8:
        return "block", draw.randrange(5), ""
    if what < 0.88:
        return "reorganisation", draw.randrange(1, 4), ""
    if what < 0.95:
        return "blind", 0, ""
    return ("later", draw.choice([60, 200, 400]), "") if what < 0.99 else ("leave", 0, "")
