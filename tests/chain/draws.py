"""Random channels, states, signatures and redemptions, for `differential.py`."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from tests.chain.states import (
    ADDRESSES,
    GUARANTEE,
    NATIVE,
    SIGNERS,
    Channel,
    Exit,
    State,
    external,
    guarantee,
    sign,
    voucher,
)

STRANGER = "ivan"
PEOPLE = [name for name in ADDRESSES if name != STRANGER]


class Draws:
    """What is drawn depends on what was there before: `channels` are remembered, so that calls build on each other."""

    def __init__(self, seed: str, consensus: bytes, payments: bytes, token: bytes) -> None:
        self.draw = random.Random(seed)
        self.consensus, self.payments = consensus, payments
        self.assets = [NATIVE, token]
        self.channels: dict[bytes, Channel] = {}

    def channel(self) -> Channel:
        """Mostly one that was there before, so that calls build on each other."""
        draw = self.draw
        if self.channels and draw.random() < 0.8:
            return draw.choice(list(self.channels.values()))
        names = draw.sample(PEOPLE, draw.choice([1, 2, 2, 2, 3]))
        if draw.random() < 0.05:
            names.append(names[0])
        apps = [self.consensus] * 4 + [self.payments] * 3 + [NATIVE, ADDRESSES["ivan"]]
        channel = Channel(
            tuple(ADDRESSES[name] for name in names),
            draw.choice(apps),
            draw.randrange(3),
            draw.choice([0, 60, 60, 60, 2**48 - 1]),
        )
        self.channels[channel.id] = channel
        return channel

    def amount(self) -> int:
        return self.draw.choice([0, 0, 1, 2, 3, 5, 7]) if self.draw.random() < 0.98 else 2**256 - 1

    def destination(self) -> bytes:
        draw = self.draw
        if self.channels and draw.random() < 0.15:
            return draw.choice(list(self.channels))
        if draw.random() < 0.02:
            return bytes(32)
        return external(ADDRESSES[draw.choice(PEOPLE)])

    def allocations(self) -> list[Any]:
        draw, found = self.draw, []
        for _ in range(draw.choice([0, 1, 2, 2, 2, 3, 4])):
            if self.channels and draw.random() < 0.15:
                left, right = draw.sample([ADDRESSES[name] for name in PEOPLE], 2)
                found.append(guarantee(draw.choice(list(self.channels)), draw.choice([3, 5, 10]), left, right))
            else:
                kind = draw.choice([0] * 12 + [1, GUARANTEE, 7])
                found.append((self.destination(), self.amount(), kind, draw.randbytes(draw.choice([0, 0, 0, 5, 64]))))
        return found

    def outcome(self) -> tuple[Exit, ...]:
        draw = self.draw
        found: list[Exit] = []
        for _ in range(draw.choice([0, 1, 1, 1, 1, 2, 3])):
            metadata = (draw.choice([0, 0, 0, 1, 3]), draw.randbytes(draw.choice([0, 0, 3])))
            found.append((draw.choice(self.assets), metadata, self.allocations()))
        return tuple(found)

    def ledger(self) -> tuple[Exit, ...]:
        """An outcome with two parties and a guarantee for a channel that exists."""
        a, b = self.draw.sample([ADDRESSES[name] for name in PEOPLE], 2)
        target = self.draw.choice(list(self.channels))
        simple = [(external(a), self.amount(), 0, b""), (external(b), self.amount(), 0, b"")]
        return ((self.draw.choice(self.assets), (0, b""), [*simple, guarantee(target, 10, a, b)]),)

    def state(self, channel: Channel) -> State:
        draw = self.draw
        outcome = self.ledger() if self.channels and draw.random() < 0.25 else self.outcome()
        if draw.random() < 0.25:
            parties = [ADDRESSES[name] for name in draw.sample(PEOPLE, 2)]
            paid = draw.randrange(11)
            slots = [(external(parties[0]), 10 - paid, 0, b""), (external(parties[1]), paid, 0, b"")]
            outcome = ((draw.choice(self.assets), (0, b""), slots),)
        data = b"" if draw.random() < 0.8 else draw.randbytes(draw.randrange(200))
        return State(channel, outcome, draw.choice([0, 1, 2, 2, 3, 4, 2**48 - 1]), data, draw.random() < 0.4)

    def final(self, channel: Channel) -> State:
        return dataclasses.replace(self.state(channel), is_final=self.draw.random() < 0.9)

    def signatures(self, state: State) -> tuple[Any, ...]:
        """Mostly everybody's; sometimes one is missing, doubled, a stranger's or broken; in any order."""
        draw = self.draw
        names = [name for name, address in ADDRESSES.items() if address in state.channel.participants]
        signatures = [sign(SIGNERS[name], state.hash) for name in names]
        if draw.random() < 0.15:
            signatures.pop(draw.randrange(len(signatures)))
        if draw.random() < 0.15:
            signatures.append(sign(SIGNERS[draw.choice(list(SIGNERS))], state.hash))
        if signatures and draw.random() < 0.05:
            v, r, s = signatures.pop()
            signatures.append(draw.choice([(v ^ 7, r, s), (v, s, r), (v, r, bytes(32)), (0, r, s)]))
        draw.shuffle(signatures)
        return (state.variable, signatures)

    def support(self, channel: Channel) -> tuple[list[Any], Any, State]:
        """Proof, signed candidate, and the candidate itself; for the payment app often a redemption."""
        draw = self.draw
        if channel.app == self.payments and draw.random() < 0.6 and len(channel.participants) > 1:
            return self.redemption(channel)
        state = self.state(channel)
        proof = [self.signatures(self.state(channel)) for _ in range(draw.choice([0] * 8 + [1, 2]))]
        return proof, self.signatures(state), state

    def redemption(self, channel: Channel) -> tuple[list[Any], Any, State]:
        draw = self.draw
        payer, payee = (external(channel.participants[i]) for i in (0, -1))
        total, paid = draw.choice([5, 10]), draw.choice([0, 1, 4, 7])
        initial = draw.choice([0] * 5 + [3])
        asset = draw.choice([NATIVE, NATIVE, NATIVE, self.assets[1]])
        old = [(payer, total, 0, b""), (payee, initial, 0, b"")]
        # `max`: what is drawn beyond the balance must be refused for another reason as well
        new = [(payer, max(total - paid, 0), 0, b""), (payee, paid, 0, b"")]
        if draw.random() < 0.3:
            at = draw.randrange(2)
            new[at] = draw.choice([(payee, *new[at][1:]), (new[at][0], new[at][1] + 1, 0, b""), (*new[at][:2], 2, b"")])
        if draw.random() < 0.05:
            new.append((payee, 3, 0, b""))
        postfund = channel.state(((asset, (0, b""), old),), draw.choice([1] * 9 + [0]))
        signer = next((name for name, address in ADDRESSES.items() if address == channel.participants[0]), "alice")
        data = voucher(channel, paid, signer if draw.random() < 0.95 else "bob")
        state = channel.state(((asset, (0, b""), new),), draw.choice([2] * 9 + [3]), data)
        return [self.signatures(postfund)], self.signatures(state), state

    def mutate(self, calldata: bytes) -> bytes:
        """A word replaced, a byte changed, or the end cut off."""
        draw, data = self.draw, bytearray(calldata)
        how = draw.random()
        if how < 0.4:
            at = 4 + 32 * draw.randrange((len(data) - 4) // 32)
            word = draw.choice([0, 1, 2, 32, 64, len(data), 2**16, 2**48, 2**64, 2**256 - 1])
            data[at : at + 32] = word.to_bytes(32, "big")
        elif how < 0.8:
            data[draw.randrange(4, len(data))] ^= 1 << draw.randrange(8)
        else:
            del data[draw.randrange(4, len(data)) :]
        return bytes(data)
