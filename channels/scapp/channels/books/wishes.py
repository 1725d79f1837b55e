"""What the operator wants of ledgers and virtual channels, as inputs of the books. Pure; each raises LocalError."""

from __future__ import annotations

from scapp.channels.books.engine import Books
from scapp.channels.books.info import LedgerRequest, PaymentChannelRequest
from scapp.channels.books.proposals import Rules, full_fault, poor_fault, side_with
from scapp.channels.books.step import NOTHING, Step
from scapp.channels.channel.chain_rules import amounts
from scapp.channels.errors import LocalError
from scapp.channels.ledger import asking, recovery
from scapp.channels.ledger import opening as ledger_opening
from scapp.channels.ledger.consensus import FOLLOWER, LEADER
from scapp.channels.ledger.funding import is_retracting
from scapp.channels.ledger.opening import LedgerOrder
from scapp.channels.ledger.proposals import Expand, Retract, Transfer
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.outcome import address_to_destination
from scapp.channels.state import FixedPart
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId, asset_unit, money
from scapp.channels.virtual import opening as virtual_opening
from scapp.channels.virtual.agreement import Agreement, Asset, nonce_at
from scapp.channels.virtual.events import NeighbourTold
from scapp.channels.virtual.record import VirtualRecord


def ledger_of(books: Books, channel: ChannelId) -> LedgerRecord:
    """Raises LocalError for an unknown one."""
    record = books.state.ledgers.get(channel)
    if record is None:
        raise LocalError(f"no ledger 0x{channel.hex()} at this node")
    return record


def virtual_of(books: Books, channel: ChannelId) -> VirtualRecord:
    """Raises LocalError for an unknown one."""
    record = books.state.virtuals.get(channel)
    if record is None:
        raise LocalError(f"no channel 0x{channel.hex()} over ledgers at this node")
    return record


def open_ledger(books: Books, request: LedgerRequest, rules: Rules, randomness: int) -> Step:
    """Propose a ledger. Both are paid to their channel addresses unless the request says else of this node."""
    me = books.context.signer.address
    if request.peer == me:
        raise LocalError("a ledger needs another node")
    order = LedgerOrder(
        peer=request.peer,
        nonce=nonce_at(books.context.now_ms, randomness),
        challenge_duration_s=request.challenge_duration_s,
        funds=request.funds,
        pays_to=(address_to_destination(request.pay_to or me), address_to_destination(request.peer)),
    )
    return ledger_opening.propose(order, books.ledgers_with(request.peer), rules.ledgers, books.context)


def top_up(books: Books, channel: ChannelId, asset: Address, amount: int) -> Step:
    """Announce a deposit; it is made once both have signed that."""
    record, session = ledger_of(books, channel), books.session(channel)
    wanted, known = Expand(asset, amount, _own(record)), asking.forgotten(record, session)
    pending = _pending_top_up(record, asset) if known is None or known.proposal != wanted else 0
    if pending:
        which = f"0x{channel.hex()}" + ("" if asset == ZERO_ADDRESS else f" --asset 0x{asset.hex()}")
        raise LocalError(
            f"a top-up of {money(pending, asset)} is pending in this ledger, and one at a time is made: wait until it "
            f"is confirmed (`scapp ledger show`), or take it back (`scapp ledger cancel-top-up {which}`)"
        )
    return asking.request(record, session, wanted, books.context)


def _pending_top_up(record: LedgerRecord, asset: Address) -> int:
    """Of this node: announced, or asked for, and not merged; 0 for none."""
    own = _own(record)
    parts = record.ledger.proposed.assets if record.ledger is not None else ()
    announced = [each.announced(own) for each in parts if each.asset == asset]
    asked = [
        each.proposal.amount
        for each in record.requests
        if isinstance(each.proposal, Expand) and each.proposal.asset == asset
    ]
    return next((level[1] - level[0] for level in announced if level is not None), 0) or sum(asked)


def hold_deposit(books: Books, channel: ChannelId, asset: Address, *, hold: bool) -> Step:
    """Deposit nothing of an asset for now, or go on. Raises LocalError when this node has announced nothing in it."""
    record, session = ledger_of(books, channel), books.session(channel)
    if hold and _announced(record, asset) is None:
        raise LocalError(f"this node has announced no deposit of {asset_unit(asset)} that is not merged")
    session.held = session.held | {asset} if hold else session.held - {asset}
    books.touch(channel)
    return NOTHING


def retract(books: Books, channel: ChannelId, asset: Address) -> Step:
    """Take an announced deposit back. The caller holds it (`hold_deposit`), and knows that none is on its way."""
    record = ledger_of(books, channel)
    between, seen = _announced(record, asset), record.chain
    if between is None or seen is None:
        raise LocalError(f"this node has announced no deposit of {asset_unit(asset)} that is not merged")
    if is_retracting(record, asset, _own(record)):
        raise LocalError("that was asked for already")
    at = record.setup.assets.index(asset)
    if any(amounts(where.holdings)[at] >= between[1] for where in (seen.latest, seen.confirmed)):
        raise LocalError("the deposit is on chain already, and counts once it is confirmed")
    return asking.request(record, books.session(channel), Retract(asset, _own(record)), books.context)


def _announced(record: LedgerRecord, asset: Address) -> tuple[int, int] | None:
    """See `AssetBalances.announced`, of this node's own."""
    parts = record.ledger.current.assets if record.ledger is not None else ()
    return next((each.announced(_own(record)) for each in parts if each.asset == asset), None)


def transfer(books: Books, channel: ChannelId, asset: Address, amount: int) -> Step:
    """Give the peer a part of what this node has."""
    record = ledger_of(books, channel)
    if record.ledger is not None:  # said here in the operator's words; the ledger refuses it too
        parts = [each for each in record.ledger.proposed.assets if each.asset == asset]
        free = sum(each.leader if record.leads else each.follower for each in parts)
        if amount > free:
            given = money(amount, asset, named=True)
            raise LocalError(f"a transfer of {given}; this node has {money(free, asset)} free in the ledger")
    return asking.request(record, books.session(channel), Transfer(asset, amount, _own(record)), books.context)


def recover(books: Books, channel: ChannelId) -> Step:
    """The operator does not wait for what a ledger's peer tells after a restore, neither of the ledger nor of the
    channels over it. Raises LocalError when nothing waits for that."""
    record = ledger_of(books, channel)
    told = tuple(
        NeighbourTold(user, at, virtual.token)
        for user in books.index.users[channel]
        if (virtual := books.state.virtuals[user]).recovering
        for at, side in virtual.sides
        if side.ledger == channel and not virtual.told[at]
    )
    waits = record.recovering or not told
    return (recovery.override(record) if waits else NOTHING) + Step(told)


def withdraw(books: Books, channel: ChannelId) -> Step:
    """Have a closed or finalized ledger paid out now, whoever's turn it is."""
    record = ledger_of(books, channel)
    if record.phase not in ("closed", "disputed"):
        raise LocalError(f"ledger is {record.phase}; close it, or leave it by a challenge, before it is paid out")
    books.disputes.hasten(channel)
    books.touch(channel)
    return NOTHING


def _own(record: LedgerRecord) -> int:
    return LEADER if record.leads else FOLLOWER


def open_payments(books: Books, request: PaymentChannelRequest, rules: Rules, randomness: int) -> Step:
    """Propose a payment channel over the ledger with the first hub, or with the payee."""
    me = books.context.signer.address
    app = rules.apps.locks if request.locks else rules.apps.payment
    if app == ZERO_ADDRESS:
        setting = "hash_lock_app" if request.locks else "virtual_payment_app"
        raise LocalError(f"this node knows no contract for such payment channels (chain.{setting})")
    if fault := rules.guarantee_fault("locks" if request.locks else "payment"):
        raise LocalError(fault)
    if len(request.fees) != len(request.via):
        raise LocalError(f"{len(request.fees)} fees for {len(request.via)} hubs")
    path = (me, *request.via, request.payee)
    if len(set(path)) != len(path):
        raise LocalError("a way names everybody once: this node, the hubs (--via), then the payee")
    side = side_with(books, path[1])
    if side is None:
        to = f"0x{path[1].hex()}"
        raise LocalError(f"there is no running ledger with {to}; `scapp ledger open` makes one, --via names a hub")
    needed = {request.asset: request.amount + sum(request.fees)}
    if fault := full_fault(books, side, 1) or poor_fault(books, side, needed):
        raise LocalError(fault)
    agreement = Agreement(
        kind="payment",
        fixed=FixedPart(path, nonce_at(books.context.now_ms, randomness), app, request.challenge_duration_s),
        destinations=(address_to_destination(me), address_to_destination(request.payee)),
        assets=(Asset(request.asset, request.amount, 0),),
        app_data=b"",
        fees=request.fees,
    )
    return virtual_opening.propose(agreement, None, side, rules.apps, books.context)
