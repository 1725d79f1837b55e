"""Players: from what the tables show and a secret of their own they decide the next message; no I/O, no clock.

A bot keeps nothing but its secret. Each round's salt follows from the secret, and the card behind an open commitment
is found again by trying the cards in hand, so a bot that is built again with the same secret goes on playing.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from scapp.channels.crypto import keccak256
from scapp.game.messages import Message, commit, commitment, reveal
from scapp.game.view import GameView, PlayerView

Chooser = Callable[[GameView, PlayerView, random.Random], int]


def _any_card(view: GameView, me: PlayerView, rng: random.Random) -> int:
    return rng.choice(me.hand)


def _worth_of_the_pot(view: GameView, me: PlayerView, rng: random.Random) -> int:
    """The card that stands in the hand where the pot stands among the pots to come, now and then one step off.

    Bidding by worth wastes nothing against a careless player; the steps make it hard to overbid by one each time.
    """
    hand = sorted(me.hand)
    if len(hand) == 1:
        return hand[0]
    coming = sorted(view.upcoming_prizes())
    below = sum(prize < view.pot for prize in coming)
    step = rng.choice((-1, 0, 0, 0, 1, 1))
    return hand[max(0, min(len(hand) - 1, below + step))]


STRENGTHS: dict[str, Chooser] = {"random": _any_card, "sensible": _worth_of_the_pot}


class Bot:
    """One player. `rng` chooses cards and, unless `secret` is given, the secret: use `random.SystemRandom()` wherever
    others must not guess it. Raises ValueError for an unknown strength or a short secret."""

    def __init__(
        self, seat: int, rng: random.Random, strength: str = "sensible", *, secret: bytes | None = None
    ) -> None:
        if strength not in STRENGTHS:
            raise ValueError(f"unknown strength {strength!r}: known are {', '.join(STRENGTHS)}")
        if secret is not None and len(secret) < 16:
            raise ValueError(f"secret of {len(secret)} bytes: at least 16 are needed")
        self.seat = seat
        self.strength = strength
        self._rng = rng
        self._secret = secret if secret is not None else rng.randbytes(32)

    def next_message(self, view: GameView) -> Message | None:
        """What to send now, or None when it is others' turn, the game is over or this player is out of it.

        Asking again before the message took effect gives a message of the same kind; only one can be accepted.
        Raises LookupError when this seat's commitment was not made with this bot's secret."""
        me = view.players[self.seat]
        if view.over or me.status != "playing":
            return None
        bid = view.bid(self.seat)
        if view.phase == "commit" and bid is None:
            card = STRENGTHS[self.strength](view, me, self._rng)
            return commit(self._commitment(view, me, card))
        if view.phase == "reveal" and bid is not None and bid.card is None:
            return reveal(self._card_behind(view, me, bid.commitment), self._salt(view))
        return None

    def _salt(self, view: GameView) -> bytes:
        return keccak256(self._secret + view.channel_id + bytes([self.seat]) + view.round.to_bytes(8, "big"))

    def _commitment(self, view: GameView, me: PlayerView, card: int) -> bytes:
        return commitment(self._salt(view), view.channel_id, me.address, view.round, card)

    def _card_behind(self, view: GameView, me: PlayerView, committed: bytes) -> int:
        for card in me.hand:
            if self._commitment(view, me, card) == committed:
                return card
        raise LookupError(
            f"seat {self.seat} committed to 0x{committed.hex()} in round {view.round}, not with this secret"
        )
