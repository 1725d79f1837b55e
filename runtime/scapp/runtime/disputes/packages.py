"""What defends a channel without any key: its latest co-signed state, as a file (docs/reference/watchtower.md).

A package is public data: whoever has it can clear a stale challenge or conclude a closed channel, and nothing else. It
tells how the channel stands, so it goes to nobody who should not know that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from scapp.channels.abi import InvalidValue
from scapp.channels.adjudicator_status import Mode
from scapp.channels.chain import calls
from scapp.channels.cosigned import NotCosigned, check_cosigned
from scapp.channels.errors import LocalError
from scapp.channels.onchain import ChainView, Checkpoint, Conclude, Transaction
from scapp.channels.reading import SignedState
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from scapp.runtime.documents import AddressText, Document
from scapp.runtime.keys_file import sync_folder, write_private
from scapp.runtime.state_documents import ChannelPart, StatePart, as_text, parts_of, signed_state

PACKAGE_BYTES_MAX = 1_048_576


class DisputePackage(Document, frozen=True, kw_only=True):
    """One co-signed state of a channel on one chain."""

    format: Literal["scapp-dispute-1"]
    chain_id: Annotated[int, Meta(ge=1)]
    adjudicator: AddressText
    channel: ChannelPart
    state: StatePart


class PackageRefused(LocalError):
    """The package defends nothing here; the text says why."""


class Defence(msgspec.Struct, frozen=True):
    """A checked package: `state` is signed by all participants of `channel`."""

    channel: ChannelId
    state: SignedState


def make_package(chain_id: int, adjudicator: Address, signed: SignedState) -> DisputePackage:
    """The package of a supported state."""
    channel, state = parts_of(signed)
    return DisputePackage(
        format="scapp-dispute-1", chain_id=chain_id, adjudicator=as_text(adjudicator), channel=channel, state=state
    )


def encode_package(package: DisputePackage) -> bytes:
    """As a file holds it."""
    return msgspec.json.format(msgspec.json.encode(package), indent=1) + b"\n"


def read_package(data: bytes, chain_id: int, adjudicator: Address) -> Defence:
    """Check a package of a stranger for this chain and adjudicator. Raises PackageRefused."""
    if len(data) > PACKAGE_BYTES_MAX:
        raise PackageRefused(f"{len(data)} bytes; a package has at most {PACKAGE_BYTES_MAX}")
    try:
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
        defence = Defence(check_cosigned(state).channel_id, state)
        size = len(calls.encode_call(calls.Checkpoint((), state)))
    except NotCosigned as error:
        raise PackageRefused(f"not co-signed: {error}") from None
    except InvalidValue as error:
        raise PackageRefused(f"the state cannot be put on chain: {error}") from None
    if size > calls.CALLDATA_BYTES_MAX:
        raise PackageRefused(f"the state takes {size} bytes on chain; a transaction has {calls.CALLDATA_BYTES_MAX}")
    return defence


def answer_to(state: SignedState, view: ChainView, head_time_s: int) -> tuple[Transaction, ...]:
    """What defends the channel now: nothing, unless a challenge stands that the state refutes and that still runs.

    A final state ends the channel at once; any other clears the challenge, and the channel goes on."""
    status = view.latest.status
    if status.mode(head_time_s) is not Mode.CHALLENGE:
        return ()
    if state.is_final:
        return (Conclude(state),)
    return (Checkpoint(state),) if state.turn > status.turn_record else ()


class PackageStore:
    """The newest package of each channel, one file each; belongs to one process."""

    def __init__(self, folder: Path, chain_id: int, adjudicator: Address, packages_max: int) -> None:
        self._folder = folder
        self._chain = (chain_id, adjudicator)
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
        if known is not None and not _is_better(defence.state, known.state):
            return False
        if known is None and len(self.defences) >= self._max:
            raise PackageRefused(f"{self._max} channels are watched already (packages_max)")
        self.defences[defence.channel] = defence
        return True

    def keep(self, data: bytes) -> Defence | None:
        """Check a package and keep it durably; None when one as good is known. Raises PackageRefused."""
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
        return defence

    def drop(self, channel: ChannelId) -> None:
        """Forget a channel that is settled."""
        self.defences.pop(channel, None)
        self._path(channel).unlink(missing_ok=True)
        sync_folder(self._folder)

    def _path(self, channel: ChannelId) -> Path:
        return self._folder / f"{as_text(channel)}.json"


def _is_better(new: SignedState, known: SignedState) -> bool:
    """A final state ends every dispute; else the higher turn counts."""
    return (new.is_final, new.turn) > (known.is_final, known.turn)
