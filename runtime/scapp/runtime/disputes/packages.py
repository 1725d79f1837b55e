"""What defends a channel or ledger without any key: its latest state, as a file (docs/reference/watchtower.md).

A package is public data: whoever has it can clear a stale challenge or conclude a closed channel, and nothing else; but
for a payee's redemptions, which end the payments. It tells how the channel stands, so it goes to nobody who should not
know that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from scapp.channels.abi import InvalidValue
from scapp.channels.adjudicator_status import Mode
from scapp.channels.chain import calls
from scapp.channels.chain.judging import channel_of
from scapp.channels.chain.support import VIRTUAL, App, is_supported, is_unanimous
from scapp.channels.cosigned import NotCosigned, check_cosigned
from scapp.channels.errors import LocalError
from scapp.channels.ledger.chain_facts import Enforceable
from scapp.channels.ledger.settling import guaranteed
from scapp.channels.onchain import ChainView, Checkpoint, Conclude, Transaction
from scapp.channels.reading import SignedState
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from scapp.runtime.documents import AddressText, Document
from scapp.runtime.keys_file import sync_folder, write_private
from scapp.runtime.state_documents import ChannelPart, StatePart, as_text, parts_of, signed_state

PACKAGE_BYTES_MAX = 1_048_576
Apps = Mapping[bytes, App]
"""What the app at each address of a chain is."""
NO_APPS: Apps = {}


class DisputePackage(Document, frozen=True, kw_only=True):
    """One co-signed state of a directly funded channel on one chain."""

    format: Literal["scapp-dispute-1"]
    chain_id: Annotated[int, Meta(ge=1)]
    adjudicator: AddressText
    channel: ChannelPart
    state: StatePart


class StackPackage(Document, frozen=True, kw_only=True):
    """One state of a ledger, or of a channel that ledgers fund, with what proves it to the channel's app."""

    format: Literal["scapp-dispute-2"]
    chain_id: Annotated[int, Meta(ge=1)]
    adjudicator: AddressText
    channel: ChannelPart
    state: StatePart
    proof: Annotated[list[StatePart], Meta(max_length=1)]


class _Format(msgspec.Struct):
    format: str = ""


class PackageRefused(LocalError):
    """The package defends nothing here; the text says why."""


class Defence(msgspec.Struct, frozen=True, kw_only=True):
    """A checked package: the contracts take `state` with `proof`. `concludes`: everybody has signed that the channel
    ends so. `virtual`: ledgers fund it, and it holds nothing itself. `gain`: what a payment channel's payee gets, by
    which redemptions of one turn differ. `guarantees`: the channels that a ledger's state funds."""

    channel: ChannelId
    state: SignedState
    proof: tuple[SignedState, ...] = ()
    concludes: bool
    virtual: bool = False
    gain: int = 0
    guarantees: frozenset[ChannelId] = frozenset()

    @property
    def rank(self) -> tuple[bool, int, int]:
        """The higher one counts: the end, else the later turn."""
        return self.concludes, self.state.turn, self.gain


def make_package(chain_id: int, adjudicator: Address, signed: SignedState) -> DisputePackage:
    """The package of a supported state of a directly funded channel."""
    channel, state = parts_of(signed)
    return DisputePackage(
        format="scapp-dispute-1", chain_id=chain_id, adjudicator=as_text(adjudicator), channel=channel, state=state
    )


def make_stack_package(chain_id: int, adjudicator: Address, found: Enforceable) -> StackPackage:
    """The package of what defends a ledger or a virtual channel."""
    channel, state = parts_of(found.candidate)
    return StackPackage(
        format="scapp-dispute-2",
        chain_id=chain_id,
        adjudicator=as_text(adjudicator),
        channel=channel,
        state=state,
        proof=[parts_of(each)[1] for each in found.proof],
    )


def encode_package(package: DisputePackage | StackPackage) -> bytes:
    """As a file holds it."""
    return msgspec.json.format(msgspec.json.encode(package), indent=1) + b"\n"


def read_package(data: bytes, chain_id: int, adjudicator: Address, apps: Apps = NO_APPS) -> Defence:
    """Check a package of a stranger for this chain, adjudicator and apps. Raises PackageRefused."""
    if len(data) > PACKAGE_BYTES_MAX:
        raise PackageRefused(f"{len(data)} bytes; a package has at most {PACKAGE_BYTES_MAX}")
    try:
        stacked = msgspec.json.decode(data, type=_Format).format == "scapp-dispute-2"
        package: DisputePackage | StackPackage
        if stacked:
            package = msgspec.json.decode(data, type=StackPackage)
        else:
            package = msgspec.json.decode(data, type=DisputePackage)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PackageRefused(f"not a dispute package: {error}") from None
    if (package.chain_id, package.adjudicator.lower()) != (chain_id, as_text(adjudicator)):
        raise PackageRefused(
            f"for adjudicator {package.adjudicator} on chain {package.chain_id}; "
            f"this is {as_text(adjudicator)} on chain {chain_id}"
        )
    state = signed_state(package.channel, package.state)
    if state.app_definition == ZERO_ADDRESS:
        raise PackageRefused("the channel is unfunded: the chain knows nothing of it")
    try:
        if isinstance(package, StackPackage):
            proof = tuple(signed_state(package.channel, each) for each in package.proof)
            defence = _of_stack(state, proof, apps)
        else:
            defence = Defence(channel=check_cosigned(state).channel_id, state=state, concludes=state.is_final)
        size = len(calls.encode_call(calls.Checkpoint(defence.proof, state)))
    except NotCosigned as error:
        raise PackageRefused(f"not co-signed: {error}") from None
    except InvalidValue as error:
        raise PackageRefused(f"the state cannot be put on chain: {error}") from None
    if size > calls.CALLDATA_BYTES_MAX:
        raise PackageRefused(f"the state takes {size} bytes on chain; a transaction has {calls.CALLDATA_BYTES_MAX}")
    return defence


def _of_stack(state: SignedState, proof: tuple[SignedState, ...], apps: Apps) -> Defence:
    """Raises PackageRefused for what the contracts would not take, InvalidValue for what is no state."""
    app = apps.get(state.app_definition)
    if app is None:
        raise PackageRefused(f"its app {as_text(state.app_definition)} is none of those in [chain] here")
    outcome = calls.decode_outcome(state.outcome)
    concludes = state.is_final and not proof and is_unanimous(state)
    if not concludes and not is_supported(apps, state, proof):
        raise PackageRefused(f"the {app} app would not take its turn {state.turn} with that proof")
    payee = [
        exit_.allocations[-1].amount for exit_ in outcome[:1] if app in ("payment", "hash-lock") and exit_.allocations
    ]
    return Defence(
        channel=channel_of(state),
        state=state,
        proof=proof,
        concludes=concludes,
        virtual=app in VIRTUAL,
        gain=sum(payee),
        guarantees=frozenset(guaranteed(outcome)),
    )


def answer_to(defence: Defence, view: ChainView, head_time_s: int) -> tuple[Transaction, ...]:
    """What defends the channel now: nothing, unless a challenge stands that the state refutes and that still runs.

    A state that ends the channel for everybody does so at once; any other clears the challenge."""
    status, state = view.latest.status, defence.state
    if status.mode(head_time_s) is not Mode.CHALLENGE:
        return ()
    if defence.concludes:
        return (Conclude(state, pays=not defence.virtual),)
    return (Checkpoint(state, defence.proof),) if state.turn > status.turn_record else ()


class PackageStore:
    """The newest package of each channel, one file each; belongs to one process."""

    def __init__(
        self, folder: Path, chain_id: int, adjudicator: Address, packages_max: int, apps: Apps = NO_APPS
    ) -> None:
        self._folder = folder
        self._chain = (chain_id, adjudicator, apps)
        self._max = packages_max
        self.defences: dict[ChannelId, Defence] = {}
        self.refused: dict[str, str] = {}  # files that are no packages, and why

    def load(self) -> None:
        """Read the folder. A file that is no package is named in `refused`, and the others count."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.refused = {}
        for path in sorted(self._folder.glob("*.json")):
            try:
                self._remember(read_package(path.read_bytes(), *self._chain))
            except (OSError, PackageRefused) as error:
                self.refused[path.name] = str(error)

    def _remember(self, defence: Defence) -> bool:
        known = self.defences.get(defence.channel)
        if known is not None and defence.rank <= known.rank:
            return False
        if known is None and len(self.defences) >= self._max:
            raise PackageRefused(f"{self._max} channels are watched already (packages_max)")
        self.defences[defence.channel] = defence
        return True

    def keep(self, data: bytes) -> tuple[Defence | None, Defence] | None:
        """Check a package and keep it durably: what was known before, and what it says. None when one as good is known.
        Raises PackageRefused."""
        defence = read_package(data, *self._chain)
        known = self.defences.get(defence.channel)
        if not self._remember(defence):
            return None
        try:
            write_private(self._path(defence.channel), data.decode(), replace=True)
        except OSError as error:
            if known is None:
                del self.defences[defence.channel]
            else:
                self.defences[defence.channel] = known
            raise PackageRefused(f"cannot be kept: {error.strerror}") from error
        return known, defence

    def drop(self, channel: ChannelId) -> None:
        """Forget a channel that is settled."""
        self.defences.pop(channel, None)
        self._path(channel).unlink(missing_ok=True)
        sync_folder(self._folder)

    def _path(self, channel: ChannelId) -> Path:
        return self._folder / f"{as_text(channel)}.json"

    def released(self, known: Defence, new: Defence) -> list[ChannelId]:
        """Virtual channels that no ledger here funds any more, now that a ledger's newer state is known: they ended
        without the chain, and nothing would ever tell."""
        return [
            channel
            for channel in known.guarantees - new.guarantees
            if channel in self.defences and not any(channel in each.guarantees for each in self.defences.values())
        ]
