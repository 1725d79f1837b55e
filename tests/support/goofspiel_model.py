"""Goofspiel in plain Python: the oracle that the compiled reducer is compared with.

Written from the rules in docs/explanation/commit-reveal.md, over dicts in place of tables: `apply` either changes the
tables as one accepted message would, or raises `Illegal` and changes nothing.
"""

from __future__ import annotations

import copy
from fractions import Fraction
from typing import Any

from scapp.channels.crypto import keccak256

Row = dict[str, Any]


class Illegal(Exception):
    """The message breaks a rule."""


def prize_order(channel_id: bytes, cards: int) -> list[int]:
    """Prizes in playing order."""
    prizes = list(range(1, cards + 1))
    for left in range(cards, 1, -1):
        draw = int.from_bytes(keccak256(channel_id + bytes([left]))[:8], "big") % left
        prizes[left - 1], prizes[draw] = prizes[draw], prizes[left - 1]
    return prizes


class GoofspielModel:
    """One game; `tables` maps table name to rows in key order."""

    def __init__(
        self,
        channel_id: bytes,
        players: list[bytes],
        cards: int,
        move_ms: int,
        stake: int | None,
        now_ms: int,
        bond_percent: int = 0,
    ) -> None:
        self.channel_id = channel_id
        self.cards = cards
        self.move_ms = move_ms
        self.stake = None if stake is None else stake * len(players)
        self.bond = (stake or 0) * bond_percent // 100
        self.amounts = None if stake is None else [stake] * len(players) + [0] * (bond_percent > 0)
        self.phase = "commit"
        self.pot = 0
        self.deadline: int | None = None
        self.players: list[Row] = [
            {
                "seat": seat,
                "address": address,
                "score": 0,
                "hand": list(range(1, cards + 1)),
                "status": "playing",
                "rank": None,
            }
            for seat, address in enumerate(players)
        ]
        self.rounds: list[Row] = [
            {"round": number, "prize": prize, "pot": None, "result": "pending", "winner": None, "card": None}
            for number, prize in enumerate(prize_order(channel_id, cards), 1)
        ]
        self.bids: dict[tuple[int, int], Row] = {}
        self.number = 0
        self._begin(now_ms)

    @property
    def tables(self) -> dict[str, list[Row]]:
        game = {
            "id": 1,
            "phase": self.phase,
            "round": self.number,
            "prize": self.rounds[self.number - 1]["prize"],
            "pot": self.pot,
            "cards": self.cards,
            "players": len(self.players),
            "move_ms": self.move_ms,
            "deadline": self.deadline,
            "stake": self.stake or 0,
            "bond": self.bond,
        }
        bids = [self.bids[key] for key in sorted(self.bids)]
        return {"game": [game], "player": self.players, "round": self.rounds, "bid": bids}

    def apply(self, seat: int, message: dict[str, Any] | None, now_ms: int) -> None:
        """One message of a seat, None for a tick."""
        if self.phase == "over":
            raise Illegal("over")
        before = copy.deepcopy(self.__dict__)
        try:
            if message is None:
                self._tick(now_ms)
            else:
                if self.players[seat]["status"] == "forfeited":
                    raise Illegal("forfeited")
                ((name, body),) = message.items()
                self._commit(seat, **body) if name == "commit" else self._reveal(seat, **body)
        except Illegal:
            self.__dict__ = before
            raise
        self._advance(now_ms)

    def _begin(self, now_ms: int) -> None:
        self.number += 1
        current = self.rounds[self.number - 1]
        self.pot += current["prize"]
        current.update(pot=self.pot, result="open")
        self._enter("commit", now_ms)

    def _enter(self, phase: str, now_ms: int) -> None:
        self.phase = phase
        self.deadline = now_ms + self.move_ms if self.move_ms else None

    def _commit(self, seat: int, hash: bytes) -> None:
        if self.phase != "commit" or (self.number, seat) in self.bids:
            raise Illegal("commit")
        self.bids[self.number, seat] = {"round": self.number, "seat": seat, "commitment": hash, "card": None}

    def _reveal(self, seat: int, card: int, salt: bytes) -> None:
        if self.phase != "reveal":
            raise Illegal("phase")
        bid, player = self.bids[self.number, seat], self.players[seat]
        secret = salt + self.channel_id + player["address"] + self.number.to_bytes(8, "big") + bytes([card % 256])
        if bid["card"] is not None or keccak256(secret) != bid["commitment"] or card not in player["hand"]:
            raise Illegal("reveal")
        bid["card"] = card
        player["hand"] = [held for held in player["hand"] if held != card]

    def _tick(self, now_ms: int) -> None:
        if self.deadline is None or now_ms <= self.deadline:
            raise Illegal("tick")
        for player in self.players:
            if player["status"] != "forfeited" and not self._moved(player["seat"]):
                player["status"] = "forfeited"

    def _moved(self, seat: int) -> bool:
        bid = self.bids.get((self.number, seat))
        return bid is not None and (self.phase == "commit" or bid["card"] is not None)

    def _playing(self) -> list[Row]:
        return [player for player in self.players if player["status"] != "forfeited"]

    def _advance(self, now_ms: int) -> None:
        playing = self._playing()
        if len(playing) < 2:
            rest = self.pot + sum(item["prize"] for item in self.rounds[self.number :])
            for item in self.rounds[self.number - 1 :]:
                item["result"] = "void"
            for player in playing:
                player["score"] += rest
                self.pot = 0
            self._end()
        elif all(self._moved(player["seat"]) for player in playing):
            if self.phase == "commit":
                self._enter("reveal", now_ms)
            else:
                self._finish(now_ms)
        self._settle()

    def _finish(self, now_ms: int) -> None:
        cards = {
            seat: bid["card"] for (number, seat), bid in self.bids.items() if number == self.number and bid["card"]
        }
        best = max(cards.values())
        winners = [seat for seat, card in cards.items() if card == best]
        winner = winners[0] if len(winners) == 1 else None
        self.rounds[self.number - 1].update(result="tied" if winner is None else "won", winner=winner, card=best)
        if winner is not None:
            self.players[winner]["score"] += self.pot
            self.pot = 0
        if self.number == self.cards:
            self._end()
        else:
            self._begin(now_ms)

    def _end(self) -> None:
        self.phase, self.deadline = "over", None
        order = [(player["status"] != "forfeited", player["score"]) for player in self.players]
        for player, own in zip(self.players, order, strict=True):
            player["rank"] = 1 + sum(other > own for other in order)
            if player["status"] == "playing":
                player["status"] = "finished"

    def _settle(self) -> None:
        if not self.stake:
            return
        seats = [player["seat"] for player in self.players]
        playing = [player["seat"] for player in self._playing()] or seats
        shown = [seat for seat in playing if not self.bond and self.phase == "reveal" and self._moved(seat)]
        shown = shown or playing
        total = self.cards * (self.cards + 1) // 2
        coming = total - self.pot - sum(player["score"] for player in self.players)
        amounts = []
        bonds = self.bond * len(seats)
        for seat in seats:
            points = Fraction(self.players[seat]["score"])
            points += Fraction(self.pot, len(shown)) if seat in shown else 0
            points += Fraction(coming, len(playing)) if seat in playing else 0
            amounts.append(int((self.stake - bonds) * points / total))
        amounts[0] += self.stake - bonds - sum(amounts)
        if bonds:
            stayed = [player["seat"] for player in self._playing()] if self.phase == "over" else []
            for seat in stayed:
                amounts[seat] += bonds // len(stayed)
            amounts.append(self.stake - sum(amounts))
        self.amounts = amounts
