"""What Mallory does with payments under hash locks: her node says something else, or nothing, at the worst moment."""

from __future__ import annotations

from scapp.channels.payments.events import amount_bytes, amount_of
from scapp.channels.payments.locked.messages import Failed, Locked, Secret, decode_lock_message, encode_lock_message
from scapp.channels.payments.locked.state import locks_of, wire_locks
from scapp.channels.payments.locks import hash_of, sign_locked
from scapp.channels.types import Address, ChannelId
from tests.simulation.hubs.net import HubNet, HubNode


class MalloryLocks:
    """`bad`: does she play the tricks of `LOCK_TRICKS` whenever she can, or nearly?"""

    def __init__(self, net: HubNet, node: HubNode) -> None:
        self.net, self.node = net, node
        self.bad = False
        self._locks: dict[bytes, frozenset[tuple[bytes, bytes, int]]] = {}  # of each lane, as she told them last

    def bent(self, peer: Address, message: bytes) -> tuple[bytes, ...]:
        """What leaves in place of a message."""
        if not any(tag in message[:12] for tag in (b"k:locked", b"k:secret")):
            return (message,)
        said = decode_lock_message(message)
        if isinstance(said, Locked):
            before, now = self._locks.get(said.channel, frozenset()), frozenset(said.locks)
            self._locks[said.channel] = now
        if not self.bad or self.net.random.random() < 0.3:
            return (message,)
        if isinstance(said, Secret):
            return self._failed(said)
        assert isinstance(said, Locked)
        if now < before:
            return self._plays("withheld payment")
        if now - before and self.net.random.random() < 0.5:
            return self._plays("withheld lock")
        return self._plays("worse voucher", message, self._worse(said)) if now else (message,)

    def _plays(self, trick: str, *messages: bytes) -> tuple[bytes, ...]:
        self.net.saw(f"hubs: Mallory: {trick}")
        return messages

    def _worse(self, said: Locked) -> bytes:
        """A newer voucher without a lock that stands, and perhaps without what was paid."""
        draw = self.net.random
        locks = locks_of(said.locks)[1:]
        amount = draw.choice([amount_of(said.amount), draw.randrange(amount_of(said.amount) + 1)])
        worse = sign_locked(ChannelId(said.channel), amount, locks, self.node.signer)
        number = said.number + draw.randrange(1, 9)
        return encode_lock_message(
            Locked(said.channel, number, amount_bytes(amount), wire_locks(locks), worse.signature, ())
        )

    def _failed(self, said: Secret) -> tuple[bytes, ...]:
        """She will not open it, she says; her node opens it on chain at the last moment."""
        name = hash_of(said.preimage)
        lock = self.node.books._locks.book.state.lanes[ChannelId(said.channel)].known.lock(name)
        if lock is None:
            return ()
        return self._plays("false failure", encode_lock_message(Failed(said.channel, name, lock.expiry_s, "no")))
