"""Mallory with ledgers: her node is real, and what she says and shows is bent. She may be payer, payee or hub.

Her own key signs whatever it likes, so nothing of hers is checked; honest nodes must have what they are owed all the
same.
"""

from __future__ import annotations

import msgspec

from scapp.channels.books.engine import Books
from scapp.channels.books.messages import encode_message
from scapp.channels.errors import ScappError
from scapp.channels.ledger import consensus
from scapp.channels.ledger.messages import TellStanding, Update, Updates
from scapp.channels.ledger.proposals import Add, Part, Proposal, Remove, Transfer
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.wire import to_wire
from scapp.channels.onchain import Challenge
from scapp.channels.payments.events import amount_bytes
from scapp.channels.payments.messages import Vouchers, encode_payment_message
from scapp.channels.payments.vouchers import sign_voucher
from scapp.channels.types import ZERO_ADDRESS, Address
from scapp.channels.virtual.agreement import pack_amounts
from scapp.channels.virtual.messages import Final, Said
from scapp.channels.virtual.record import VirtualRecord
from tests.simulation.hubs.checks import Checks, kind_of
from tests.simulation.hubs.hostile_locks import MalloryLocks
from tests.simulation.hubs.net import HubNet, HubNode
from tests.simulation.plan import Act

WITHHELD = ("Agree", "Said", "Updates", "SignFinal", "p:")
HEARD_MAX = 200


class Mallory:
    """`act` does one thing; what lasts (silence, a signature withheld) lasts until `repent`."""

    def __init__(self, net: HubNet, node: HubNode, checks: Checks) -> None:
        self.net, self.node, self.checks = net, node, checks
        self.silent = False
        self.withheld = ""
        self.locks = MalloryLocks(net, node)
        self.said: list[tuple[Address, bytes]] = []
        node.tap = self._tap

    def _tap(self, peer: Address, message: bytes) -> tuple[bytes, ...]:
        if len(self.said) < HEARD_MAX:
            self.said.append((peer, message))
        if self.silent or (self.withheld and kind_of(message) == self.withheld):
            return ()
        return self.locks.bent(peer, message)

    def repent(self) -> None:
        """She speaks again; what she has shown to the chain stands."""
        self.silent, self.withheld, self.locks.bad = False, "", False

    async def act(self, act: Act) -> None:
        """One of `HOSTILE_ACTS`, or "bad locks"."""
        books = self.node.books._open_books() if self.node.up else None
        if books is None:
            return
        if act.text == "bad locks":
            self.locks.bad = True
            return
        done = {
            "wrong guarantee": self._wrong_guarantee,
            "wrong end": self._wrong_end,
            "withheld signature": self._withhold,
            "replay": self._replay,
            "silence": self._silence,
            "malformed bytes": self._malformed,
            "stale ledger": self._stale_ledger,
            "stale channel": self._stale_channel,
            "foreign voucher": self._voucher,
            "false standing": self._standing,
        }[act.text](books)
        if done:
            self.net.saw(f"hubs: Mallory: {act.text}")

    def _say(self, peer: Address, message: bytes) -> None:
        try:
            super(type(self.node.transport), self.node.transport).send(peer, message)  # past the tap
        except ScappError:
            return

    def _virtual(self, books: Books) -> VirtualRecord | None:
        found = [each for each in books.state.virtuals.values() if not each.over]
        return self.net.random.choice(found) if found else None

    def _ledger(self, books: Books) -> LedgerRecord | None:
        found = [each for each in books.state.ledgers.values() if each.ledger is not None and each.is_open]
        return self.net.random.choice(found) if found else None

    def _wrong_guarantee(self, books: Books) -> bool:
        """As leader: a change that was not agreed on, under a valid signature; of a guarantee, or in her favour."""
        draw = self.net.random
        led = [each for each in books.state.ledgers.values() if each.leads and each.usable and each.ledger is not None]
        if not led:
            return False
        record, virtual = draw.choice(led), self._virtual(books)
        assert record.ledger is not None
        parties = record.ledger.current.parties
        changes: list[Proposal] = [Transfer(ZERO_ADDRESS, draw.randrange(1, 200), consensus.FOLLOWER)]
        if virtual is not None:
            first, last = virtual.agreement.start[0]
            ends = [parties.leader, parties.follower]
            draw.shuffle(ends)
            part = Part(ZERO_ADDRESS, first + last, draw.randrange(first + last + 1))
            changes.append(Add(virtual.channel_id, ends[0], ends[1], (part,), draw.randrange(5)))
            changes.append(Remove(virtual.channel_id, (part,)))
        change = draw.choice(changes)
        try:
            _, signed = consensus.propose(record.ledger, change, self.node.signer)
        except ScappError:
            return False
        update = Update(signed.turn, to_wire(change), signed.signature)
        self._say(record.peer, encode_message(Updates(record.channel, (update,))))
        return True

    def _wrong_end(self, books: Books) -> bool:
        """An end of a channel by which nobody but she wins, with her signature alone."""
        draw = self.net.random
        found = [each for each in books.state.virtuals.values() if not each.over and each.agreement.kind == "payment"]
        if not found:
            return False
        record = draw.choice([each for each in found if each.left is None] or found)  # best one in which she pays
        first, last = record.agreement.start[0]
        total = first + last
        paid = draw.choice([0, draw.randrange(total + 1)])
        amounts = ((total - paid, paid),)
        digest = record.hash_of("final", 2, amounts, b"")
        signatures = tuple(
            self.node.signer.sign(digest) if index == record.my_index else b""
            for index in range(len(record.agreement.participants))
        )
        said = Said(
            record.channel_id, record.prefund.signatures, final=Final(2, pack_amounts(amounts), b"", signatures)
        )
        for peer in record.peers:
            self._say(peer, encode_message(said))
        return True

    def _withhold(self, books: Books) -> bool:
        self.withheld = self.net.random.choice(WITHHELD)
        return True

    def _silence(self, books: Books) -> bool:
        self.silent = True
        return True

    def _replay(self, books: Books) -> bool:
        for peer, message in self.net.random.sample(self.said, min(5, len(self.said))):
            self._say(peer, message)
        return bool(self.said)

    def _malformed(self, books: Books) -> bool:
        draw = self.net.random
        if not self.said:
            return False
        peer, message = draw.choice(self.said)
        data = bytearray(message)
        for _ in range(draw.randrange(1, 6)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        self._say(peer, bytes(data[: draw.randrange(1, len(data) + 1)]) if draw.random() < 0.3 else bytes(data))
        return True

    def _stale_ledger(self, books: Books) -> bool:
        """A ledger is challenged with any state that both have ever signed."""
        kept = self.checks.of[self.node.index]
        ledgers = [channel for channel, found in kept.states.items() if found and channel in books.state.ledgers]
        if not ledgers:
            return False
        channel = self.net.random.choice(ledgers)
        states = kept.states[channel]
        candidate = self.net.random.choice([states[0], self.net.random.choice(states)])
        return self.net.chain.carry_out(self.node.signer, channel, Challenge(candidate))

    def _stale_channel(self, books: Books) -> bool:
        """A virtual channel is challenged with the state in which nothing is paid."""
        kept = self.checks.of[self.node.index]
        channels = [channel for channel, found in kept.states.items() if found and channel in books.state.virtuals]
        if not channels:
            return False
        channel = self.net.random.choice(channels)
        return self.net.chain.carry_out(self.node.signer, channel, Challenge(kept.states[channel][0]))

    def _voucher(self, books: Books) -> bool:
        """A voucher under her key for a channel in which somebody else pays, or for more than there is."""
        record = self._virtual(books)
        if record is None:
            return False
        amount = self.net.random.choice([1, record.agreement.start[0][0], 10**9])
        voucher = sign_voucher(record.channel_id, amount, self.node.signer)
        item = record.channel_id, amount_bytes(amount), voucher.signature
        for peer in record.peers:
            self._say(peer, encode_payment_message(Vouchers((item,))))
        return True

    def _standing(self, books: Books) -> bool:
        """Where a ledger stands, told to somebody who has not asked, with an older state."""
        record = self._ledger(books)
        if record is None:
            return False
        told = TellStanding(
            record.channel, self.net.random.randbytes(16), None, (b"", b""), record.prefund, 0, (b"", b""), 5, 0, ()
        )
        self._say(record.peer, encode_message(msgspec.structs.replace(told)))
        return True
