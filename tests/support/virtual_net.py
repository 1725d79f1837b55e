"""Parties with virtual channels over real ledger values, and a network between them that loses, doubles and reorders.

A party stores each event before it folds it, and anything it says is said after that; `crashing` makes it fold all of
its events anew after every step. `check` looks at what must hold at every moment, `settled` at what must hold at the
end.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence

import msgspec

from scapp.channels.books.step import BooksTerms, Context, Send, Step
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.ledger import consensus
from scapp.channels.ledger.balances import Balances, Parties, opening_balances
from scapp.channels.ledger.consensus import Ledger, LedgerRefused, SignedProposal
from scapp.channels.ledger.proposals import Proposal
from scapp.channels.outcome import address_to_destination
from scapp.channels.signing import Signer
from scapp.channels.state import FixedPart, VariablePart, check_fixed_part, state_hash
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId, Hash, Signature
from scapp.channels.virtual import defunding, opening
from scapp.channels.virtual.agreement import Agreement, Asset, nonce_at, state_of, unpack_amounts
from scapp.channels.virtual.backing import backing
from scapp.channels.virtual.crank import Funding, crank, ledger_wants, place_of
from scapp.channels.virtual.events import Side, Signed, VirtualCreated, VirtualEvent, VirtualRestored
from scapp.channels.virtual.messages import Proposed, VirtualMessage
from scapp.channels.virtual.pending import coalesced, pending
from scapp.channels.virtual.receiving import receive
from scapp.channels.virtual.record import LEFT, RIGHT, VirtualRecord, create, evolve
from scapp.channels.virtual.standing import phase, waiting_for

NOW_MS = 1_700_000_000_000
APPS = opening.Apps(Address(b"\xaa" * 20), Address(b"\xbb" * 20))
CONSENSUS_APP = Address(b"\xcc" * 20)
TOKEN = Address(b"\x70" * 20)
STORED: msgspec.msgpack.Decoder[VirtualEvent] = msgspec.msgpack.Decoder(VirtualEvent)
WIRE: msgspec.msgpack.Decoder[VirtualMessage] = msgspec.msgpack.Decoder(VirtualMessage)
encode = msgspec.msgpack.Encoder().encode
_nonces = itertools.count(1)


class NotingSigner:
    """A key that remembers what it has signed."""

    def __init__(self, number: int) -> None:
        self._signer = Signer(number.to_bytes(32, "big"))
        self.signed: list[Hash] = []

    @property
    def address(self) -> Address:
        return self._signer.address

    def sign(self, digest: Hash) -> Signature:
        self.signed.append(digest)
        return self._signer.sign(digest)


class Party:
    """One node: its events, the records they fold to, its ledgers by neighbour, and what it has to send."""

    def __init__(self, number: int) -> None:
        self.signer = NotingSigner(number)
        self.address = self.signer.address
        self.now_ms = NOW_MS
        self.terms = BooksTerms(virtual_timeout_s=60)
        self.events: list[bytes] = []
        self.records: dict[ChannelId, VirtualRecord] = {}
        self.ledgers: dict[Address, Ledger] = {}
        self.confirmed: dict[Address, SignedProposal] = {}  # this follower's newest countersignature
        self.sends: list[Send] = []
        self.decide: Callable[[opening.HubRequest], str] = lambda _: ""
        self.gives_up = False  # what it does not want though its app channel has signed; else it refuses it
        self.promised: dict[ChannelId, int] = {}  # vouchers that this end of a payment channel has given or holds
        self.crashing = False
        self.refused: list[str] = []
        self.start_worth: dict[Address, int] = {}
        self.lost: list[bytes] = []  # events that a restore has forgotten
        self.forgotten: dict[ChannelId, VirtualRecord] = {}  # the records before it
        self.restored_ms = 0
        self.token = b""

    @property
    def context(self) -> Context:
        return Context(self.signer, self.now_ms, 0, self.terms)

    # What a node's shell does: store, fold, act.

    def take(self, step: Step) -> None:
        for event in step.events:
            self.events.append(encode(event))
            self._fold(event)
        if self.crashing and step.events:
            kept, self.records = self.records, {}
            for data in self.events:
                self._fold(STORED.decode(data))
            assert self.records == kept
        self.sends += step.sends

    def _fold(self, event: VirtualEvent) -> None:
        channel = ChannelId(event.channel)
        if isinstance(event, VirtualCreated):
            self.records[channel] = create(event)
        else:
            self.records[channel] = evolve(self.records[channel], event)

    def hear(self, peer: Address, message: VirtualMessage | SignedProposal) -> None:
        """A message; a PeerError is counted and changes nothing."""
        try:
            if isinstance(message, SignedProposal):
                self._hear_ledger(peer, message)
            elif isinstance(message, Proposed) and message.channel not in self.records:
                self._proposed(peer, message)
            elif message.channel in self.records:
                self.take(receive(self.records[ChannelId(message.channel)], peer, message))
            else:
                self.take(opening.unknown(peer, message, self.restored_ms))
        except PeerError as error:
            self.refused.append(str(error))
        self.settle()

    def _proposed(self, peer: Address, message: Proposed) -> None:
        left, right = opening.neighbours_of(message, self.address)
        if any(each is not None and each not in self.ledgers for each in (left, right)):
            self.take(
                opening.refuse(ChannelId(message.channel), message.participants.index(self.address), peer, "no ledger")
            )
            return
        step = opening.receive_proposal(
            peer, message, self.side(left), self.side(right), APPS, self.context, self.restored_ms, self.token
        )
        created, *rest = step.events
        record = create(created)
        for event in rest:
            record = evolve(record, event)
        if record.recovering:
            self.take(step)
            return
        reason = self.decide(opening.request_of(record))
        if reason and self.gives_up and record.is_app_party:
            self.take(opening.give_up(step, reason))
            return
        if reason:
            self.take(opening.refuse(record.channel_id, record.my_index, peer, reason))
            return
        self.take(step)
        if not record.is_app_party:
            self.take(opening.approve(self.records[record.channel_id], self.context))

    def _hear_ledger(self, peer: Address, message: SignedProposal) -> None:
        ledger = self.ledgers[peer]
        if ledger.my_index == consensus.LEADER:
            self.ledgers[peer] = consensus.receive_countersigned(ledger, message)
            return
        try:
            self.ledgers[peer] = consensus.receive_proposal(ledger, message)
        except LedgerRefused as error:
            if not error.stale:
                raise
            if peer in self.confirmed:
                self.sends.append(Send(peer, self.confirmed[peer]))

    def side(self, peer: Address | None) -> Side | None:
        if peer is None:
            return None
        ledger = self.ledgers[peer]
        leads = ledger.my_index == consensus.LEADER
        leader, follower = ledger.current.parties.leader, ledger.current.parties.follower
        mine, theirs = (leader, follower) if leads else (follower, leader)
        return Side(peer, ledger.channel_id, mine, theirs, leads)

    def settle(self) -> None:
        """Crank records and ledgers until nothing more comes."""
        before = None
        impossible: dict[ChannelId, str] = {}
        while before != (state := (len(self.events), tuple(self.ledgers.values()))):
            before = state
            for channel in list(self.records):
                self._crank(channel, impossible.get(channel, ""))
            wants: dict[Address, list[Proposal]] = {}
            for record in self.records.values():
                for peer, change in ledger_wants(record):
                    wants.setdefault(peer, []).append(change)
            for peer, changes in wants.items():
                impossible |= self._pursue(peer, changes)
            if impossible:
                for channel, reason in impossible.items():
                    self._crank(channel, reason)

    def _crank(self, channel: ChannelId, impossible: str) -> None:
        record = self.records[channel]
        places = [
            place_of(record, at, self.ledgers.get(Address(side.peer)) if side is not None else None)
            for at, side in ((LEFT, record.left), (RIGHT, record.right))
        ]
        self.take(crank(record, Funding(places[LEFT], places[RIGHT], impossible), self.context))
        if defunding.wants_total(self.records[channel]):
            self.take(defunding.total_known(self.records[channel], self.promised.get(channel, 0)))

    def _pursue(self, peer: Address, wants: Sequence[Proposal]) -> dict[ChannelId, str]:
        ledger = self.ledgers[peer]
        failed: dict[ChannelId, str] = {}
        if ledger.my_index == consensus.LEADER:
            queued = [each.proposal for each in ledger.queue]
            for want in wants:
                if want not in queued:
                    try:
                        ledger, _ = consensus.propose(ledger, want, self.signer)
                    except LocalError as error:
                        failed[want.target] = str(error)
            if ledger != self.ledgers[peer]:
                self.ledgers[peer] = ledger
                self.sends += [Send(peer, each) for each in consensus.redundant_queue(ledger)]
            return failed
        while ledger.queue and ledger.queue[0].proposal in wants:
            ledger, signed = consensus.sign_next(ledger, ledger.queue[0].proposal, self.signer)
            self.confirmed[peer] = signed
            self.sends.append(Send(peer, signed))
        self.ledgers[peer] = ledger
        return failed

    def restore(self, kept: int) -> None:
        """Go on from a backup that holds the first `kept` events only; see `Net.restore`."""
        self.lost += self.events[kept:]
        self.forgotten |= self.records
        self.events, self.records, self.sends = self.events[:kept], {}, []
        for data in self.events:
            self._fold(STORED.decode(data))
        self.now_ms += 1
        self.restored_ms, self.token = self.now_ms, self.now_ms.to_bytes(16, "big")
        restored = tuple(
            VirtualRestored(channel, self.token) for channel, each in self.records.items() if not each.over
        )
        self.take(Step(restored))
        self.settle()

    def resend(self) -> None:
        for record in self.records.values():
            for peer in record.peers:
                self.sends += [Send(peer, message) for message in pending(record, peer)]
        for peer, ledger in self.ledgers.items():
            if ledger.my_index == consensus.LEADER:
                self.sends += [Send(peer, each) for each in consensus.redundant_queue(ledger)]

    # What must hold of it.

    def worth(self, asset: Address) -> int:
        """The least this hub's ledgers may pay it, whichever of the states that may be co-signed is enforced: of what a
        leader has signed, any may be countersigned already."""
        total = 0
        for ledger in self.ledgers.values():
            queued = ledger.queue if ledger.my_index == consensus.LEADER else ()
            total += min(self._part(each, asset) for each in (ledger.current, *(item.after for item in queued)))
        return total

    def _part(self, balances: Balances, asset: Address) -> int:
        mine = address_to_destination(self.address)
        amount = 0
        for each in balances.assets:
            if each.asset != asset:
                continue
            amount += each.leader if balances.parties.leader == mine else each.follower
            for guarantee in each.guarantees:
                record = self.records.get(guarantee.target)
                if record is None or record.ended is None:
                    record = self.forgotten.get(guarantee.target, record)
                assert record is not None
                state = record.ended
                first, last = (state.amounts if state is not None else record.agreement.start)[
                    [one.asset for one in record.agreement.assets].index(asset)
                ]
                amount += first if guarantee.left == mine else last
        return amount

    def one_state_per_turn(self) -> None:
        """No turn of a virtual channel has two states under this party's signature, and it signed nothing unstored."""
        signed: dict[tuple[bytes, int], Hash] = {}
        for data in self.lost + self.events:
            event = STORED.decode(data)
            if not isinstance(event, Signed) or event.channel not in self.records:
                continue
            record = self.records[ChannelId(event.channel)]
            if not event.signatures[record.my_index]:
                continue
            amounts = unpack_amounts(event.amounts)
            digest = record.hash_of(event.milestone, event.turn, amounts, event.app_data)
            assert signed.setdefault((event.channel, event.turn), digest) == digest, f"two states of turn {event.turn}"


class Net:
    """A path of parties, each with a ledger with the next one, and what is under way between them."""

    def __init__(
        self,
        count: int,
        seed: object = 0,
        *,
        funds: int = 1_000,
        assets: Sequence[Address] = (ZERO_ADDRESS,),
        leads: Sequence[bool] | None = None,
        lossy: bool = False,
    ) -> None:
        self.random = random.Random(str(seed))
        self.lossy = lossy
        self.assets = tuple(assets)
        self.funds = funds
        self.parties = [Party(1 + index) for index in range(count)]
        self.by_address = {party.address: party for party in self.parties}
        self.bag: list[tuple[Address, Address, bytes | SignedProposal]] = []
        self.silent: set[Address] = set()
        self.delivered = 0
        orientation = leads if leads is not None else [self.random.random() < 0.5 for _ in range(count - 1)]
        for left, right, left_leads in zip(self.parties, self.parties[1:], orientation, strict=False):
            self._ledger(*((left, right) if left_leads else (right, left)), funds)
        for party in self.parties:
            party.start_worth = {asset: party.worth(asset) for asset in self.assets}

    def _ledger(self, leader: Party, follower: Party, funds: int) -> None:
        fixed = FixedPart((leader.address, follower.address), next(_nonces), CONSENSUS_APP, 86_400)
        parties = Parties(address_to_destination(leader.address), address_to_destination(follower.address))
        balances = opening_balances(parties, [(asset, funds, funds) for asset in self.assets])
        digest = balances.state_hash(check_fixed_part(fixed))
        signatures = leader.signer.sign(digest), follower.signer.sign(digest)
        leader.ledgers[follower.address] = consensus.begin(fixed, consensus.LEADER, balances, signatures)
        follower.ledgers[leader.address] = consensus.begin(fixed, consensus.FOLLOWER, balances, signatures)

    def agreement(
        self,
        kind: str = "payment",
        amounts: Sequence[tuple[int, int]] = ((100, 0),),
        fees: Sequence[int] | None = None,
        path: Sequence[Party] | None = None,
    ) -> Agreement:
        path = path if path is not None else self.parties
        first, last = path[0].address, path[-1].address
        app = APPS.payment if kind == "payment" else APPS.app
        return Agreement(
            "payment" if kind == "payment" else "app",
            FixedPart(tuple(each.address for each in path), nonce_at(NOW_MS, next(_nonces)), app, 86_400),
            (address_to_destination(first), address_to_destination(last)),
            tuple(Asset(asset, *pair) for asset, pair in zip(self.assets, amounts, strict=False)),
            b"" if kind == "payment" else b"prefund",
            tuple(fees) if fees is not None else (1,) * (len(path) - 2),
        )

    def open(self, agreement: Agreement) -> ChannelId:
        """Propose it by its first participant; the last one of an app channel has agreed through the app."""
        channel = check_fixed_part(agreement.fixed)
        first = self.by_address[agreement.participants[0]]
        signatures = self.app_signatures(agreement, "prefund") if agreement.kind == "app" else ()
        ends = (first, self.by_address[agreement.participants[-1]]) if signatures else (first,)
        for party in ends:
            index = agreement.participants.index(party.address)
            people = agreement.participants
            left = party.side(people[index - 1]) if index else None
            right = party.side(people[index + 1]) if index + 1 < len(people) else None
            party.take(opening.propose(agreement, left, right, APPS, party.context, signatures))
            party.settle()
        self.flush()
        return channel

    def app_state(
        self, agreement: Agreement, milestone: str, amounts: tuple[tuple[int, int], ...] = ()
    ) -> VariablePart:
        if milestone == "final":
            return state_of(agreement, "final", 9, amounts, b"final")
        turn = 0 if milestone == "prefund" else 1
        return state_of(agreement, "prefund", turn, agreement.start, milestone.encode())

    def app_signatures(
        self, agreement: Agreement, milestone: str, amounts: tuple[tuple[int, int], ...] = ()
    ) -> tuple[bytes, ...]:
        """Of both app parties, under the state of a milestone as their engines make it."""
        digest = state_hash(check_fixed_part(agreement.fixed), self.app_state(agreement, milestone, amounts))
        people = agreement.participants
        ends = (people[0], people[-1])
        return tuple(self.by_address[who].signer.sign(digest) if who in ends else b"" for who in people)

    def engines(self, final: dict[ChannelId, tuple[tuple[int, int], ...]]) -> None:
        """What the app engines of both parties of each app channel do: the postfund state once both have heard of the
        guarantee, the final one, if there is one, once both have heard that the funding is complete."""
        for party in self.parties:
            for channel, record in list(party.records.items()):
                if not record.is_app_party or record.my_index or party.address in self.silent:
                    continue
                other = self.by_address[record.agreement.participants[-1]]
                theirs = other.records.get(channel)
                if theirs is None or other.address in self.silent:
                    continue
                stages = {backing(record).stage, backing(theirs).stage}
                if stages <= {"guaranteed", "complete"}:
                    self._offer(channel, (party, other), "postfund")
                if channel in final and stages <= {"complete", "releasing", "released"}:
                    self._offer(channel, (party, other), "final", final[channel])
        self.flush()

    def _offer(
        self, channel: ChannelId, parties: Sequence[Party], milestone: str, amounts: tuple[tuple[int, int], ...] = ()
    ) -> None:
        for party in parties:
            record = party.records[channel]
            if not record.over:
                state = self.app_state(record.agreement, milestone, amounts)
                party.take(defunding.offer(record, state, self.app_signatures(record.agreement, milestone, amounts)))
                party.settle()

    def flush(self) -> None:
        """What the parties have to send goes into the bag; twice or not at all, if the network is bad."""
        for party in self.parties:
            for send in coalesced(party.sends):
                if party.address in self.silent or send.peer in self.silent or send.peer not in self.by_address:
                    continue
                message = send.message
                payload = message if isinstance(message, SignedProposal) else encode(message)
                chance = self.random.random() if self.lossy else 0.5
                self.bag += [(party.address, send.peer, payload)] * (0 if chance < 0.2 else 2 if chance > 0.85 else 1)
            party.sends = []

    def deliver(self) -> None:
        """One message, the oldest; any one if the network is bad."""
        source, to, payload = self.bag.pop(self.random.randrange(len(self.bag)) if self.lossy else 0)
        if source in self.silent or to in self.silent:
            return
        self.delivered += 1
        self.by_address[to].hear(source, payload if isinstance(payload, SignedProposal) else WIRE.decode(payload))
        self.flush()

    def run(
        self,
        until: Callable[[], bool] = lambda: False,
        *,
        rounds: int = 40,
        final: dict[ChannelId, tuple[tuple[int, int], ...]] | None = None,
        check: bool = True,
    ) -> None:
        """Deliver everything, then let everybody say again what is pending, for some rounds or until it holds."""
        self._run(until, rounds, final or {}, check)
        for party in self.parties:
            party.one_state_per_turn()

    def _run(
        self, until: Callable[[], bool], rounds: int, final: dict[ChannelId, tuple[tuple[int, int], ...]], check: bool
    ) -> None:
        for _ in range(rounds):
            self.engines(final)
            while self.bag and not until():
                self.deliver()
                self.engines(final)
                if check:
                    self.check()
            if until():
                return
            for party in self.parties:
                if party.address not in self.silent:
                    party.resend()
            quiet = not any(party.sends for party in self.parties)
            self.flush()
            if quiet:
                return

    def restore(self, party: Party, kept: int) -> None:
        """A party goes on from a backup of its first `kept` events. Its connections break, so what is under way is
        lost; its ledgers recover as ledgers do: to what both have signed last, and what only the leader had signed is
        gone."""
        self.bag = [each for each in self.bag if party.address not in each[:2]]
        for peer, mine in party.ledgers.items():
            other = self.by_address[peer]
            theirs = other.ledgers[party.address]
            newest = max((mine, theirs), key=lambda ledger: ledger.current.turn)
            recovered = {"current": newest.current, "signatures": newest.signatures, "queue": ()}
            party.ledgers[peer] = msgspec.structs.replace(mine, **recovered)
            other.ledgers[party.address] = msgspec.structs.replace(theirs, **recovered)
        party.restore(kept)
        self.flush()

    def pass_time(self, seconds: int) -> None:
        for party in self.parties:
            party.now_ms += seconds * 1000
            if party.address not in self.silent:
                party.settle()
        self.flush()

    def check(self) -> None:
        """What holds at every moment: the sums in the ledgers, and what hubs are worth at least."""
        for party in self.parties:
            for ledger in party.ledgers.values():
                for balances in (ledger.current, ledger.proposed):
                    totals = {each.asset: each.total for each in balances.assets}
                    assert set(totals.values()) == {2 * self.funds}
        for party in self.parties[1:-1]:
            for record in party.records.values():
                ends = (record.signed(record.postfund, 0), record.signed(record.postfund, -1))
                assert not (record.is_hub and record.signed(record.postfund)) or all(ends), "a hub signs after the ends"
            for asset in self.assets:
                assert party.worth(asset) >= party.start_worth[asset], "a hub has lost"

    def phases(self, channel: ChannelId) -> list[str]:
        """Of every party that has it, in the path's order."""
        return [phase(party.records[channel]) for party in self.parties if channel in party.records]

    def gains(self, asset: Address = ZERO_ADDRESS) -> list[int]:
        """What each party has more than at first, over all its ledgers."""
        return [party.worth(asset) - party.start_worth[asset] for party in self.parties]

    def guarantees(self) -> int:
        """How many stand in the ledgers, as their parties see them."""
        return sum(
            len(each.guarantees)
            for party in self.parties
            for ledger in party.ledgers.values()
            for each in ledger.current.assets
        )


def describe(net: Net) -> str:
    """Where everybody stands, for failures."""
    return "\n".join(
        f"{number}: {phase(record)}: {waiting_for(record)!r} held {record.held} gone {record.gone}"
        f" end {record.reason!r} {[len(ledger.queue) for ledger in party.ledgers.values()]} {party.refused[-2:]}"
        for number, party in enumerate(net.parties)
        for record in party.records.values()
    )


__all__ = ["APPS", "NOW_MS", "TOKEN", "Net", "Party", "describe"]
