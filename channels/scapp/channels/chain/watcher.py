"""Follows a chain for the channels that are watched: what changed, in which block, and what was taken back. Pure.

Events only say *which* channel to look at; what it holds is read from the adjudicator's state at that block, so any
way of changing it is understood. Blocks of a window are known by their hashes; within it every touched block has its
own reading, so that a block taken back leaves the readings before it. A deeper reorganisation reads everything anew.

`follow` is one look at the chain. It changes nothing until all its answers are there and fit together: it raises
`Moved` when the chain moved meanwhile, and can be thrown away at any step.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import msgspec

from scapp.channels.adjudicator_status import unpack_status
from scapp.channels.chain import requests as ask
from scapp.channels.chain.calls import Holdings, StatusOf, decode_number, encode_call, without_fixed_part
from scapp.channels.chain.client import Block, Log, Refused, Unavailable, ViewCall, in_bloom
from scapp.channels.chain.contract_events import ChallengeRegistered, Concluded
from scapp.channels.chain.events import CursorMoved
from scapp.channels.chain.hints import checkpointed_in
from scapp.channels.chain.recorded import Found, WithProof, events_of, recorded, records_a_state, registered, told_by
from scapp.channels.chain.requests import Steps
from scapp.channels.chain.settings import ChainSettings
from scapp.channels.crypto import keccak256
from scapp.channels.errors import ScappError
from scapp.channels.onchain import ChainView, ChannelOnChain
from scapp.channels.types import ZERO_HASH, Address, ChannelId, Hash

WINDOW_BLOCKS = 64
VIEWS_PER_REQUEST = 200
CURSOR_EVERY_BLOCKS = 32
LOOK_UPS_MAX = 12


LookUps = dict[tuple[int, int], int]
"""How often the state of a challenge or checkpoint (turn and end) was looked for."""


class Moved(ScappError):
    """The chain moved while it was read; nothing was taken over, and the next look will fit."""


@dataclasses.dataclass
class Watched:
    """A channel, its readings in the order of blocks, and the view that was told last. Without readings it is read
    at the next look. A reading holds until the block of the next one."""

    assets: tuple[Address, ...]
    since_block: int
    fed_by: ChannelId | None = None  # what happens to that channel may change this one
    readings: list[ChannelOnChain] = dataclasses.field(default_factory=list)
    told: ChainView | None = None
    looked_up: LookUps = dataclasses.field(default_factory=dict)


class Watcher:
    """`cursor` is where an earlier run got to."""

    def __init__(self, settings: ChainSettings, cursor: CursorMoved | None = None) -> None:
        self.watched: dict[ChannelId, Watched] = {}
        self.recent: list[Block] = []  # of the window, each the parent of the next; the last is the head
        self._settings = settings
        self._window = max(WINDOW_BLOCKS, 2 * settings.confirmations)
        self._cursor = cursor
        self._address_hash = keccak256(settings.adjudicator)

    @property
    def head(self) -> Block | None:
        return self.recent[-1] if self.recent else None

    @property
    def confirmed(self) -> Block | None:
        """The newest block that counts as confirmed."""
        return self._confirmed(self.recent) if self.recent else None

    @property
    def processed(self) -> int | None:
        """The newest block that has been looked at."""
        if self.recent:
            return self.recent[-1].number
        return None if self._cursor is None else self._cursor.number

    def watch(
        self, channel: ChannelId, assets: Sequence[Address], since_block: int, fed_by: ChannelId | None = None
    ) -> None:
        """Idempotent; other assets than before mean a new reading."""
        known = self.watched.get(channel)
        if known is None or known.assets != tuple(assets):
            self.watched[channel] = Watched(tuple(assets), max(since_block, self._settings.start_block), fed_by)

    def unwatch(self, channel: ChannelId) -> None:
        self.watched.pop(channel, None)

    def canonical(self, number: int, block_hash: Hash) -> bool:
        """Whether a block is on the chain as it was seen last; of what lies below the window nothing else is known."""
        if not self.recent or number > self.recent[-1].number:
            return False
        if number < self.recent[0].number:
            return True
        return self.recent[number - self.recent[0].number].hash == block_hash

    def next_cursor(self) -> CursorMoved | None:
        """What to store, when the stored one is far behind."""
        block = self.confirmed
        if block is None:
            return None
        if self._cursor is not None and block.number - self._cursor.number < CURSOR_EVERY_BLOCKS:
            return None
        return CursorMoved(block.number, block.hash)

    def cursor_stored(self, cursor: CursorMoved) -> None:
        self._cursor = cursor

    def follow(self) -> Steps[list[tuple[ChannelId, ChainView]]]:
        """The channels whose view has changed since it was told, each with its view."""
        head: Block = yield ask.ReadHead()
        recent, fork = yield from self._connect(head)
        if recent is None:
            recent, fork = self.recent, self.recent[-1].number  # nothing new
        watched = dict(self.watched)
        kept = {channel: self._kept(item, fork) for channel, item in watched.items()}
        fresh = [channel for channel, readings in kept.items() if not readings]
        first = self._first_to_scan(recent, fork, bool(fresh))
        logs = (yield from self._logs(first, recent)) if watched else []
        wanted = self._to_read(watched, kept, recent, logs)
        found = yield from self._read(watched, wanted, logs, kept)
        own = events_of(logs, watched)
        after: dict[ChannelId, list[ChannelOnChain]] = {}
        looked_up: dict[ChannelId, LookUps] = {}
        for channel, item in watched.items():
            after[channel] = sorted([*kept[channel], *found.get(channel, ())], key=lambda reading: reading.block)
            looked_up[channel] = yield from self._complete(channel, item, after[channel], own.get(channel, []))
        # Everything is there: from here on nothing is asked, so nothing can be half done.
        self.recent = recent
        changed = []
        for channel, item in watched.items():
            item.looked_up |= looked_up[channel]
            item.readings = _from(after[channel], recent[0].number)
            view = self._view(item)
            if view != item.told and self.watched.get(channel) is item:
                item.told = view
                changed.append((channel, view))
        return changed

    def _first_to_scan(self, recent: list[Block], fork: int, fresh: bool) -> int:
        """From where logs are needed: what is new, and for channels not read yet what is not confirmed."""
        unconfirmed = self._confirmed(recent).number + 1
        if fork >= 0:
            return min(fork + 1, unconfirmed) if fresh else fork + 1
        if self._cursor is not None and not self.recent:
            unconfirmed = min(unconfirmed, self._cursor.number + 1)
        return max(unconfirmed, self._settings.start_block)

    # Blocks

    def _connect(self, head: Block) -> Steps[tuple[list[Block] | None, int]]:
        """The window up to a new head, and the newest block that it shares with what was known (-1 for none)."""
        old = {block.number: block for block in self.recent}
        known = old.get(head.number)
        if known is not None and known.hash == head.hash:
            return None, head.number  # known already, or an endpoint that is behind
        bottom = max(0, head.number - self._window)
        if not self.recent:
            return (yield from self._headers(bottom, head)), -1
        tip = self.recent[-1]
        if head.number - tip.number > self._window:  # away for long: what was known still stands, or nothing does
            (same,) = yield ask.ReadBlocks((tip.number,))
            stands = same is not None and same.hash == tip.hash
            return (yield from self._headers(bottom, head)), tip.number if stands else -1
        chain = yield from self._headers(min(tip.number + 1, head.number), head)
        step = 1
        while chain[0].number > bottom and not _follows(old, chain[0]):
            first = max(bottom, chain[0].number - step)
            chain = (yield from self._headers(first, chain[0])) + chain[1:]
            step *= 2
        shared = [block.number for block in chain if old.get(block.number) == block]  # strides may go too far
        fork = shared[-1] if shared else chain[0].number - 1 if _follows(old, chain[0]) else -1
        before = [block for block in self.recent if block.number < chain[0].number] if fork >= 0 else []
        return [block for block in (*before, *chain) if block.number >= bottom], fork

    def _headers(self, first: int, head: Block) -> Steps[list[Block]]:
        """Blocks from `first` up to a known one, each the parent of the next."""
        numbers = tuple(range(first, head.number))
        below: list[Block | None] = (yield ask.ReadBlocks(numbers)) if numbers else []
        chain = [block for block in below if block is not None]
        if len(chain) != len(numbers):
            raise Moved(f"a block between {first} and {head.number} is gone")
        chain.append(head)
        for parent, child in itertools.pairwise(chain):
            if child.parent != parent.hash or child.number != parent.number + 1:
                raise Moved(f"block {child.number} does not follow block {parent.number} as it was read")
        return chain

    # Logs

    def _logs(self, first: int, recent: list[Block]) -> Steps[list[Log]]:
        """Logs of the adjudicator from a block on, once each, in order, none of a block that was taken back."""
        hashes = {block.number: block.hash for block in recent}
        found: dict[tuple[int, int], Log] = {}
        for log in (yield from self._scan(first, recent[-1].number, ())):
            if hashes.get(log.block, log.block_hash) != log.block_hash:
                raise Moved(f"logs are of another block {log.block} than the one known")
            found[log.block, log.index] = log
        seen = {log.block for log in found.values()}
        for block in recent:  # an endpoint that is behind leaves out logs; the block itself tells
            if block.number >= first and block.number not in seen and in_bloom(block.bloom, self._address_hash):
                answer = yield ask.ReadBlockLogs(block.hash)
                if isinstance(answer, Refused):
                    raise Moved(f"logs of block {block.number} cannot be read: {answer}")
                found |= {(log.block, log.index): log for log in answer if not log.removed}
        return [found[key] for key in sorted(found)]

    def _scan(self, first: int, last: int, topics: tuple[bytes | None, ...]) -> Steps[list[Log]]:
        """Logs of a range in chunks, halved where the node finds one too long."""
        found: list[Log] = []
        size = self._settings.log_range_blocks
        while first <= last:
            answer = yield ask.ReadLogs(first, min(last, first + size - 1), topics)
            if isinstance(answer, Refused):
                if answer.kind != "too-much" or size == 1:
                    raise Unavailable(f"logs from block {first} on cannot be read: {answer}")
                size //= 2
                continue
            found += [log for log in answer if not log.removed]
            first += size
        return found

    # Readings

    def _kept(self, item: Watched, fork: int) -> list[ChannelOnChain]:
        """Readings of blocks that still stand."""
        return [reading for reading in item.readings if reading.block <= fork]

    def _confirmed(self, recent: list[Block]) -> Block:
        wanted = recent[-1].number - self._settings.confirmations
        return recent[max(0, wanted - recent[0].number)]

    def _to_read(
        self,
        watched: dict[ChannelId, Watched],
        kept: dict[ChannelId, list[ChannelOnChain]],
        recent: list[Block],
        logs: list[Log],
    ) -> list[tuple[ChannelId, Block]]:
        """Which channel to read at which blocks."""
        by_number = {block.number: block for block in recent}
        confirmed = self._confirmed(recent)
        wanted: dict[tuple[ChannelId, int], Block] = {}
        for channel, readings in kept.items():
            if not readings:
                wanted[channel, confirmed.number] = confirmed
        touched = {channel: [channel] for channel in watched}
        for channel, item in watched.items():
            if item.fed_by is not None:
                touched.setdefault(item.fed_by, []).append(channel)
        for log in logs:
            for channel in touched.get(ChannelId(log.topics[1]), ()) if len(log.topics) > 1 else ():
                block = by_number.get(log.block, recent[0])  # what lies below the window is read where that begins
                if not kept[channel] and block.number < confirmed.number:
                    block = confirmed
                wanted[channel, block.number] = block
        return [(channel, block) for (channel, _), block in sorted(wanted.items(), key=lambda item: item[0][1])]

    def _read(
        self,
        watched: dict[ChannelId, Watched],
        wanted: list[tuple[ChannelId, Block]],
        logs: list[Log],
        kept: dict[ChannelId, list[ChannelOnChain]],
    ) -> Steps[dict[ChannelId, list[ChannelOnChain]]]:
        calls = [
            ViewCall(self._settings.adjudicator, data, block.hash)
            for channel, block in wanted
            for data in (
                encode_call(StatusOf(channel)),
                *(encode_call(Holdings(asset, channel)) for asset in watched[channel].assets),
            )
        ]
        answers: list[bytes] = []
        for start in range(0, len(calls), VIEWS_PER_REQUEST):
            part = yield ask.ReadViews(tuple(calls[start : start + VIEWS_PER_REQUEST]))
            for answer in part:
                if isinstance(answer, Refused):
                    raise Moved(f"the adjudicator cannot be read: {answer}")
                answers.append(answer)
        remaining = iter(answers)
        events = events_of(logs, watched)
        found: dict[ChannelId, list[ChannelOnChain]] = {}
        for channel, block in wanted:
            status = unpack_status(Hash(next(remaining) or ZERO_HASH))
            holdings = tuple(decode_number(next(remaining) or ZERO_HASH) for _ in watched[channel].assets)
            reading = ChannelOnChain(block.number, block.hash, holdings, status)
            earlier = [*kept[channel], *found.get(channel, ())]
            shown = registered(status, block.number, events.get(channel, ()), earlier)
            if shown is not None:
                reading = msgspec.structs.replace(reading, registered=shown[0], proof=shown[1])
            found.setdefault(channel, []).append(reading)
        return found

    def _complete(
        self, channel: ChannelId, item: Watched, readings: list[ChannelOnChain], events: list[Found]
    ) -> Steps[LookUps]:
        """Find the recorded states that no reading has yet: of challenges from before the channel was watched, and of
        checkpoints, which the calldata of their transaction may show.

        An endpoint may leave something out, so it is asked again at later looks, but not for ever."""
        missing = {
            recorded(reading.status)
            for reading in readings
            if records_a_state(reading.status) and reading.registered is None
        }
        missing = {known for known in missing if item.looked_up.get(known, 0) < LOOK_UPS_MAX}
        if not missing:
            return {}
        if not missing <= {told_by(event) for _, event in events}:
            logs = yield from self._scan(item.since_block, readings[-1].block, (None, bytes(channel)))
            events = events_of(logs, (channel,)).get(channel, [])
        concluded: LookUps = {}
        found: dict[tuple[int, int], WithProof] = {}
        sent: dict[tuple[int, int], Hash] = {}
        for log, event in events:
            if isinstance(event, Concluded):
                concluded[told_by(event)] = LOOK_UPS_MAX  # agreed, not challenged
            elif isinstance(event, ChallengeRegistered):
                found[told_by(event)] = event.candidate, event.proof
            elif told_by(event) in missing:
                sent[told_by(event)] = log.transaction
        if sent:
            answers: list[bytes | None] = yield ask.ReadCalldata(tuple(sent.values()))
            for known, calldata in zip(sent, answers, strict=True):
                shown = checkpointed_in(calldata or b"", channel, known[0], self._settings.apps)
                if shown is not None:
                    found[known] = without_fixed_part(shown[0]), tuple(map(without_fixed_part, shown[1]))
        for at, reading in enumerate(readings):
            if recorded(reading.status) in missing & found.keys():
                candidate, proof = found[recorded(reading.status)]
                readings[at] = msgspec.structs.replace(reading, registered=candidate, proof=proof)
        # What was found starts anew: a reorganisation may make it missing again, as often as it likes.
        looked_up = {known: 0 if known in found else item.looked_up.get(known, 0) + 1 for known in missing}
        return looked_up | concluded

    def _view(self, item: Watched) -> ChainView:
        confirmed = self._confirmed(self.recent).number
        stands = [reading for reading in item.readings if reading.block <= confirmed]
        return ChainView(item.readings[-1], stands[-1] if stands else item.readings[0])


def _follows(old: dict[int, Block], child: Block) -> bool:
    return child.number - 1 in old and old[child.number - 1].hash == child.parent


def _from(readings: list[ChannelOnChain], bottom: int) -> list[ChannelOnChain]:
    """Readings of the window, and the one that holds where it begins."""
    below = [reading for reading in readings if reading.block <= bottom]
    return [*below[-1:], *(reading for reading in readings if reading.block > bottom)]
