"""The game's tables as typed values, built from SQL rows; `bots.py` plays from them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class PlayerView:
    """One player; `hand` holds the cards not yet revealed, `rank` is None until the game is over."""

    seat: int
    address: bytes
    score: int
    hand: tuple[int, ...]
    status: str  # "playing", "finished" (once the game is over) or "forfeited"
    rank: int | None


@dataclass(frozen=True)
class RoundView:
    """One round; `pot` is its prize plus what earlier ties left, known once the round has begun."""

    round: int
    prize: int
    pot: int | None
    result: str  # "pending", "open", "won", "tied" or "void"
    winner: int | None


@dataclass(frozen=True)
class BidView:
    """One player's bid in one round; `card` is None until revealed."""

    round: int
    seat: int
    commitment: bytes
    card: int | None


@dataclass(frozen=True)
class GameView:
    """All that everybody can see of one game."""

    channel_id: bytes
    phase: str  # "commit", "reveal" or "over"
    round: int
    prize: int
    pot: int
    cards: int
    deadline_ms: int | None  # milliseconds since 1970 UTC
    players: tuple[PlayerView, ...]  # by seat
    rounds: tuple[RoundView, ...]  # by number
    bids: tuple[BidView, ...]  # by round, then seat

    @classmethod
    def from_rows(
        cls,
        channel_id: bytes | str,
        *,
        game: Iterable[Row],
        players: Iterable[Row],
        rounds: Iterable[Row],
        bids: Iterable[Row],
    ) -> GameView:
        """Build the view from the rows of the four tables; raises ValueError unless `game` holds exactly one row."""
        heads = list(game)
        if len(heads) != 1:
            raise ValueError(f"{len(heads)} rows in table game: a channel with a running game has exactly one")
        head = heads[0]
        return cls(
            channel_id=_bytes(channel_id),
            phase=str(head["phase"]),
            round=int(head["round"]),
            prize=int(head["prize"]),
            pot=int(head["pot"]),
            cards=int(head["cards"]),
            deadline_ms=_milliseconds(head["deadline"]),
            players=tuple(sorted((_player(row) for row in players), key=lambda player: player.seat)),
            rounds=tuple(sorted((_round(row) for row in rounds), key=lambda item: item.round)),
            bids=tuple(sorted((_bid(row) for row in bids), key=lambda bid: (bid.round, bid.seat))),
        )

    @property
    def over(self) -> bool:
        return self.phase == "over"

    def bid(self, seat: int, round_number: int | None = None) -> BidView | None:
        """The bid of a seat, in the current round unless told otherwise."""
        wanted = (self.round if round_number is None else round_number, seat)
        return next((bid for bid in self.bids if (bid.round, bid.seat) == wanted), None)

    def upcoming_prizes(self) -> tuple[int, ...]:
        """Prizes of the rounds after the current one, in order."""
        return tuple(item.prize for item in self.rounds if item.round > self.round)

    def standings(self) -> tuple[PlayerView, ...]:
        """Players, best first: those who stayed by score, then those who forfeited."""
        return tuple(sorted(self.players, key=lambda one: (one.status == "forfeited", -one.score, one.seat)))


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return bytes.fromhex(value.removeprefix("0x").removeprefix("\\x"))
    return bytes(value)


def _optional_int(value: Any) -> int | None:
    return None if value is None else int(value)


def _milliseconds(value: dt.datetime | str | int | None) -> int | None:
    if value is None or isinstance(value, int):
        return value
    moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)


def _player(row: Row) -> PlayerView:
    hand = row["hand"]
    cards = json.loads(hand) if isinstance(hand, str | bytes) else hand
    return PlayerView(
        int(row["seat"]),
        _bytes(row["address"]),
        int(row["score"]),
        tuple(int(card) for card in cards),
        str(row["status"]),
        _optional_int(row["rank"]),
    )


def _round(row: Row) -> RoundView:
    return RoundView(
        int(row["round"]),
        int(row["prize"]),
        _optional_int(row["pot"]),
        str(row["result"]),
        _optional_int(row["winner"]),
    )


def _bid(row: Row) -> BidView:
    return BidView(int(row["round"]), int(row["seat"]), _bytes(row["commitment"]), _optional_int(row["card"]))
