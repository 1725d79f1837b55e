"""A plain mutator: the same seed gives the same inputs, everywhere. Beside atheris, which follows coverage but is only
reproducible through the inputs it keeps."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

NUMBERS = tuple(
    value.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for value in (0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)
    for order in ("big", "little")
)
PIECES = (
    b"\xc1",
    b"\x91" * 600,
    b"[" * 600,
    b'{"a":' * 300,
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xff\xfe",
)


def inputs(seeds: Sequence[bytes], count: int, first: int, bytes_max: int) -> Iterator[bytes]:
    """Inputs number `first`, `first + 1`, … of this decoder: the seeds themselves, then mutations of them."""
    for number in range(first, first + count):
        if number < len(seeds):
            yield seeds[number][:bytes_max]
        else:
            yield mutated(seeds, random.Random(number))[:bytes_max]


def mutated(seeds: Sequence[bytes], draw: random.Random) -> bytes:
    """One input: a seed (or two, spliced), changed a few times."""
    data = bytearray(draw.choice(seeds))
    for _ in range(1 + min(draw.getrandbits(3), draw.getrandbits(3))):
        _change(data, seeds, draw)
    return bytes(data)


def _change(data: bytearray, seeds: Sequence[bytes], draw: random.Random) -> None:
    at = draw.randrange(len(data) + 1)
    kind = draw.randrange(8)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << draw.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = draw.randrange(256)
    elif kind == 2:
        del data[at : at + draw.randrange(1, 9)]
    elif kind == 3:
        data[at:at] = draw.randbytes(draw.randrange(1, 9))
    elif kind == 4:
        number = draw.choice(NUMBERS)
        data[at : at + len(number)] = number
    elif kind == 5:
        del data[at:]
    elif kind == 6:
        other = draw.choice(seeds)
        data[at:] = other[draw.randrange(len(other) + 1) :]
    else:
        data[at:at] = draw.choice(PIECES)
