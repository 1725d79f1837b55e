"""What a running node offers its local callers (HTTP API, tests), implemented by `node.Node`, and what it asks them.

All methods belong to the node's event loop. Refusals of what the caller asked are `LocalError`; their text is
meant for the person who asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from scapp.channels.channel.events import ChannelCreated
from scapp.channels.channel.shares import Stakes
from scapp.channels.channel.standing import BackingInfo, ChannelOnChainInfo
from scapp.channels.deployment import Deployment
from scapp.channels.reading import Archived, EntrySource, SignedState
from scapp.channels.transport.port import PeerStatus
from scapp.channels.types import Address, ChannelId


class OpenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for a new channel; the caller's node becomes participant 0, the sequencer.

    `fund` is "none"; "direct": every participant deposits on the node's chain what its slots say
    (docs/reference/app-channel.md section 7); or "virtual": ledgers of this node, of the hubs in `via` and of the one
    peer put it up, without any transaction (section 8). Hub i is paid `fees[i]` of the first asset."""

    peers: tuple[Address, ...]  # the other participants, in order
    deployment: Deployment
    params: Any = None  # handed to the reducer in entry 0, anything MessagePack can hold
    slots: tuple[tuple[bytes, bytes, int], ...] = ()  # (asset 20 B, destination 32 B, amount)
    challenge_duration: int = 86_400  # seconds
    nonce: int | None = None  # random when None
    fund: str = "none"
    via: tuple[Address, ...] = ()
    fees: tuple[int, ...] = ()


class ChannelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One channel as its owner sees it. `phase` is one of proposed (waits for this node's acceptance), opening,
    funding, running, disputed (a challenge stands, or this node leaves), closing, closed, settled (paid out on chain),
    rejected, recovering, halted; `waiting_for` says in words what it waits for, or is empty. `chain` is None unless
    directly funded, `backing` unless virtual."""

    channel_id: ChannelId
    phase: str
    waiting_for: str
    participants: tuple[Address, ...]
    my_index: int
    deployment: Deployment
    deployment_id: bytes
    slots: tuple[tuple[bytes, bytes, int], ...]
    turn: int | None  # latest supported turn
    signed_turn: int | None  # latest turn this node has signed
    sequence: int  # entries under the latest supported state
    log_root: bytes
    state_root: bytes
    amounts: tuple[int, ...]
    time_ms: int
    pending: int  # own submissions not decided yet
    reason: str  # why rejected or halted
    chain: ChannelOnChainInfo | None = None
    backing: BackingInfo | None = None
    renews: ChannelId | None = None  # the channel that this one takes over from
    successor: ChannelId | None = None  # the one that takes over from this one, or is to


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one submission. `status`: accepted (under all signatures, at `sequence`), refused (with
    `reason`, at `code`), or pending (still undecided when the wait ended; it stays submitted)."""

    counter: int
    status: str
    sequence: int | None = None
    turn: int | None = None
    code: str = ""
    reason: str = ""


class NodeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Told to listeners after it is durable. `kind`: proposed, opened, supported (a new batch), refused, closed,
    submission_refused (one of this node's own: `detail` has its counter, code and reason), rejected, recovered, halted,
    link (a peer came or went; `peer` set); of funded channels also leaving, chain (the chain shows something new), and
    before it what that is: funded, challenged, cleared, finalized, settled; of virtual app channels the same, with
    backing (what their ledgers say) in the place of chain; resize (a participant wants to take money out, as `detail`
    says); ledger or virtual (`detail` says in which phase it is, or what else happened), paid (by `peer`, in a payment
    channel)."""

    kind: str
    channel_id: ChannelId | None = None
    peer: Address | None = None
    sequence: int | None = None
    turn: int | None = None
    detail: str = ""


class Policy(Protocol):
    """Decides about channels that others propose. It is asked once per proposal."""

    def decide(self, proposer: Address, deployment: Deployment, created: ChannelCreated) -> str:
        """ "accept", "ask: why" (leave it to the operator), or "reject: reason"."""
        ...

    def decide_funding(self, stakes: Stakes) -> str:
        """The same answers, for a channel with deposits that `decide` would accept."""
        ...


class NodeService(Protocol):
    """The node."""

    @property
    def address(self) -> Address: ...

    @property
    def source(self) -> EntrySource:
        """Supported entries of all channels, for derivation and display; thread-safe."""
        ...

    def counters(self) -> dict[str, int]:
        """Metrics: name to count (messages received, refused by reason, batches, …)."""
        ...

    def peers(self) -> list[PeerStatus]: ...

    def add_peer(self, address: Address, endpoint: str) -> None:
        """Connect to a peer at `host:port`, until the node stops; whoever composes the node remembers peers."""
        ...

    def remove_peer(self, address: Address) -> None:
        """Dial a peer no longer and end its link; it may connect by itself, and what runs with it goes on then."""
        ...

    def channels(self) -> list[ChannelInfo]:
        """Those in memory: all that are not over, and those that were used lately."""
        ...

    def archived(self) -> Mapping[ChannelId, Archived]:
        """All others: they are over and stay on the disk. Every other method takes them as well."""
        ...

    def was_archived(self, channel_id: ChannelId) -> bool:
        """Is it in memory because somebody has done something with it after it was over?"""
        ...

    async def read_archived(self, channels: Sequence[ChannelId]) -> list[ChannelInfo]:
        """Of these, 0.15 ms of processor time each; those that are in memory by now, or corrupt, are left out."""
        ...

    def channel(self, channel_id: ChannelId) -> ChannelInfo:
        """Raises LocalError for an unknown channel, CorruptionError for one that cannot be read."""
        ...

    def corrupt(self) -> dict[ChannelId, str]:
        """Channels whose stored events cannot be trusted, and what is wrong; they are not among `channels`. Under
        `books.step.BOOKS_STREAM` all ledgers together."""
        ...

    async def open_channel(self, request: OpenRequest) -> ChannelId:
        """Durable and on its way when it returns; wait for phase `running` with `wait_phase`."""
        ...

    async def accept(self, channel_id: ChannelId) -> None: ...

    async def fetch_module(self, channel_id: ChannelId, timeout: float) -> bytes:
        """The reducer module of a proposed channel, from its proposer, checked against the deployment's hash."""
        ...

    async def reject(self, channel_id: ChannelId, reason: str) -> None: ...

    async def recover(self, channel_id: ChannelId) -> None:
        """End the recovery of a restored channel without the others' answers, at the operator's risk."""
        ...

    async def submit(
        self, channel_id: ChannelId, payloads: Sequence[bytes], *, tick: bool = False, timeout: float = 30.0
    ) -> list[Receipt]:
        """Submit own messages in order and wait until each is decided, at most `timeout` seconds.

        Durable when it returns, the sequencer's own as in `close_channel`."""
        ...

    async def close_channel(self, channel_id: ChannelId) -> None:
        """Ask for the final state; returns once the wish is durable.

        The sequencer's own wish is durable in its signed proposal and waits in memory while another is in flight."""
        ...

    async def top_up(self, channel_id: ChannelId, asset: Address, amount: int) -> None:
        """Let this node deposit that much more into a running channel, once the app has everybody sign that it does;
        durable when it returns.

        Raises LocalError when the channel has no room for it."""
        ...

    async def resize(
        self, channel_id: ChannelId, withdrawn: Mapping[Address, int], params: Any = None
    ) -> ChannelId | None:
        """Take money out of a running channel, by asset: a successor channel takes over the rest. Participant 0's node
        proposes it, with what others have asked for as well, and gets its id; it begins with `params`, or those of this
        channel. Any other node asks participant 0's, until either of them is stopped, and gets None.

        Raises LocalError for what the channel cannot do now."""
        ...

    async def challenge(self, channel_id: ChannelId) -> None:
        """Leave a funded channel with its newest supported state, without the others; durable when it returns.

        Raises LocalError when there is nothing to leave, or no chain."""
        ...

    def enforceable_state(self, channel_id: ChannelId) -> SignedState | None:
        """The newest state of a directly funded channel with all signatures as the contracts take them; None while
        there is none, and for any other channel."""
        ...

    def enforceable_stack(self, channel_id: ChannelId) -> tuple[SignedState, tuple[SignedState, ...]] | None:
        """The newest state of a virtual channel that the contracts take, and its proof: see
        `channel.backed.enforceable_stack`."""
        ...

    async def shown(self, channel_id: ChannelId, candidate: SignedState) -> None:
        """The chain shows a state of a virtual channel, from whomever: a newer one than this node's is adopted."""
        ...

    async def checkpoint(self, channel_id: ChannelId) -> None:
        """Have a funded channel's newest supported state recorded on chain, though nobody disputes it.

        Raises LocalError when nothing is held on chain, or the turn is recorded already."""
        ...

    async def withdraw(self, channel_id: ChannelId) -> None:
        """Have a closed or finalized channel paid out now, without waiting for the participants before this one.

        Raises LocalError while the channel still runs."""
        ...

    async def wait_phase(self, channel_id: ChannelId, phases: Sequence[str], timeout: float) -> ChannelInfo:
        """Wait until the channel is in one of `phases`; raises TimeoutError."""
        ...

    def subscribe(self, listener: Callable[[NodeEvent], None]) -> Callable[[], None]:
        """Call `listener` for each event, in order; returns a function that ends it. A raising listener is dropped."""
        ...
