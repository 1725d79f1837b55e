"""The compiled game against its plain-Python model: any play, legal or not, leaves equal tables and amounts."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.game import commitment, wasm_bytes
from tests.support.goofspiel_model import GoofspielModel, Illegal
from tests.support.reducer_driver import CAST, CHANNEL, NOW_MS, Driver, Refused, slot_for

SALT = b"\x5a" * 32


def commit(seat: int, round_number: int, card: int, salt: bytes = SALT) -> dict[str, Any]:
    return {"commit": {"hash": commitment(salt, CHANNEL, CAST[seat], round_number, card)}}


def reveal(card: int, salt: bytes = SALT) -> dict[str, Any]:
    return {"reveal": {"card": card, "salt": salt}}


def game(players: int = 2, params: Any = None, stake: int | None = None) -> Driver:
    slots = () if stake is None else [slot_for(address, stake) for address in CAST[:players]]
    return Driver(wasm_bytes(), CAST[:players], params if params is not None else {"cards": 3}, slots)


def play_round(driver: Driver, cards: list[int]) -> list[tuple[str, Any]]:
    number = driver.rows("game")[0]["round"]
    events = []
    for seat, card in enumerate(cards):
        events += driver.send(seat, commit(seat, number, card))
    for card_seat, card in enumerate(cards):
        events += driver.send(card_seat, reveal(card))
    return events


POOL = slot_for(bytes(19) + b"\x01", 0)


def opening(players: int, stake: int | None, bond_percent: int) -> tuple[Any, ...]:
    """The slots: one for each player, and one for the bonds where there are any."""
    slots = [] if stake is None else [slot_for(address, stake) for address in CAST[:players]]
    return (*slots, POOL) if slots and bond_percent else tuple(slots)


class RandomPlay:
    """One seeded run of messages, most of them legal, sent to both model and reducer."""

    def __init__(self, seed: int, *, stake: int | None = -1, bond_percent: int | None = None) -> None:
        self.rng = random.Random(seed)
        players = self.rng.randint(2, 4)
        cards = self.rng.randint(3, 5)
        move_ms = self.rng.choice([0, 1000])
        if stake == -1:
            stake = self.rng.choice([None, 0, 7, 10**18, 2**253])
        if bond_percent is None:
            bond_percent = self.rng.choice([0, 15, 50])
        channel_id = self.rng.randbytes(32)
        slots = opening(players, stake, bond_percent)
        self.model = GoofspielModel(
            channel_id, list(CAST[:players]), cards, move_ms, stake, NOW_MS, bond_percent if slots else 0
        )
        self.driver = Driver(
            wasm_bytes(),
            CAST[:players],
            {"cards": cards, "move_ms": move_ms, "bond_percent": bond_percent},
            slots,
            channel_id=channel_id,
        )
        self.salts: dict[tuple[int, int], tuple[int, bytes]] = {}

    def message(self, seat: int) -> dict[str, Any] | None:
        if self.rng.random() < 0.06:
            return None
        number = self.model.number
        phase = self.model.phase if self.rng.random() > 0.1 else self.rng.choice(["commit", "reveal"])
        if phase == "commit":
            hand = self.model.players[seat]["hand"] if self.rng.random() > 0.05 else [1, 2, 99]
            card, salt = self.rng.choice(hand or [1]), self.rng.randbytes(32)
            if self.model.phase == "commit" and (number, seat) not in self.model.bids:
                self.salts[number, seat] = card, salt
            address = self.model.players[seat]["address"]
            return {"commit": {"hash": commitment(salt, self.model.channel_id, address, number, card)}}
        card, salt = self.salts.get((number, seat), (1, SALT))
        return reveal(card if self.rng.random() > 0.1 else self.rng.choice([-1, 0, 1, 2, 300]), salt)

    def step(self) -> bool:
        """Send one message; True when accepted. A commitment moves no stakes, a reveal never lowers one's own."""
        seat = self.rng.randrange(len(self.model.players))
        message = self.message(seat)
        now = self.driver.now_ms = self.driver.now_ms + self.rng.choice([0, 1, 10, 400])
        try:
            self.model.apply(seat, message, now)
        except Illegal:
            with pytest.raises(Refused) as refused:
                self.driver.tick(seat) if message is None else self.driver.send(seat, message)
            assert refused.value.code == "rejected"
            return False
        before = self.driver.amounts
        self.driver.tick(seat) if message is None else self.driver.send(seat, message)
        if message is not None and "commit" in message:
            # The first message of all puts the bonds where they stay until the end.
            assert self.driver.amounts == before or (self.model.bond and before[-1] == 0)
        elif message is not None and before and not self.model.bond:  # else it is the bond that makes it worth while
            assert self.driver.amounts[seat] >= before[seat] - len(before)  # rounding
        return True

    def compare(self) -> None:
        for table, expected in self.model.tables.items():
            assert self.driver.rows(table) == expected
        if self.model.amounts is not None:
            assert self.driver.amounts == self.model.amounts
            assert sum(self.driver.amounts) == self.model.stake


@given(st.integers(0, 2**32))
def test_any_play_leaves_the_tables_of_the_model(seed: int) -> None:
    """Random legal and illegal messages: same verdicts, same rows, same amounts, after every message."""
    play = RandomPlay(seed)
    play.compare()
    for _ in range(250):
        if play.step():
            play.compare()
        if play.model.phase == "over":
            break
    play.compare()
    play.driver.close()


@given(st.integers(0, 2**32))
def test_with_half_the_stake_as_bond_silence_never_pays(seed: int) -> None:
    """After every message of any play: a seat that stays gets at the end, whatever the others do from here on, at
    least what it has now if nobody signs again."""
    play = RandomPlay(seed, stake=10**18, bond_percent=50)
    model, driver = play.model, play.driver
    points = model.cards * (model.cards + 1) // 2
    for _ in range(150):
        if not play.step() or model.phase == "over":
            continue
        at_stake = model.stake - model.bond * len(model.players)
        for player in model._playing():
            bonds = model.bond * len(model.players) // len(model._playing())  # with those of who has forfeited
            least = bonds + at_stake * player["score"] // points
            assert driver.amounts[player["seat"]] <= least + len(model.players)  # rounding
    driver.close()


def test_bonds_come_back_at_the_end_and_go_to_who_stays() -> None:
    """Held while the game goes on; a forfeit gives one's own to the others."""
    driver = Driver(wasm_bytes(), CAST[:2], {"cards": 3, "move_ms": 1_000, "bond_percent": 25}, opening(2, 1_200, 25))
    assert driver.amounts == [1_200, 1_200, 0]
    driver.send(0, commit(0, 1, 3))
    assert driver.amounts == [900, 900, 600]
    driver.now_ms += 2_000
    driver.tick(0)
    assert driver.amounts == [2_400, 0, 0]
    driver = Driver(wasm_bytes(), CAST[:2], {"cards": 3, "bond_percent": 25}, opening(2, 1_200, 25))
    for cards in ([3, 2], [2, 1], [1, 3]):
        play_round(driver, cards)
    assert driver.amounts[2] == 0
    assert sum(driver.amounts) == 2_400
    assert min(driver.amounts[:2]) >= 300


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        ([slot_for(CAST[0], 9), slot_for(CAST[1], 9)], "2 outcome slots for 2 players: one each is needed and one for"),
        ([slot_for(CAST[0], 9), slot_for(CAST[1], 9), slot_for(CAST[0], 0)], "the slot for the bonds pays a player"),
        ([slot_for(CAST[0], 9), slot_for(CAST[1], 9), slot_for(bytes(20), 5)], "begins with 5: it must begin empty"),
        ([slot_for(CAST[0], 1), slot_for(CAST[1], 1), POOL], "a stake of 1 is too small for a bond of 20 percent"),
    ],
)
def test_bonds_that_would_not_work_are_refused(slots: list[Any], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        Driver(wasm_bytes(), CAST[:2], {"bond_percent": 20}, slots)


@pytest.mark.parametrize(
    ("players", "params", "reason"),
    [
        (1, None, "1 participants: the game is for 2 to 4"),
        (2, {"cards": 2}, "cards is 2: allowed are 3 to 13"),
        (2, {"cards": 14}, "cards is 14: allowed are 3 to 13"),
        (2, {"move_ms": -1}, r"move_ms is -1: allowed are 0 \(no deadline\) to"),
        (2, {"bond_percent": 51}, "bond_percent is 51: allowed are 0 to 50"),
        (2, {"card": 5}, "unknown field 'card': known are cards, move_ms, bond_percent"),
        (2, {"cards": "5"}, "field 'params.cards' must be a whole number, not text"),
    ],
)
def test_an_unplayable_opening_is_refused(players: int, params: Any, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        Driver(wasm_bytes(), CAST[:players], params)


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        ([slot_for(CAST[0], 1)], "1 outcome slots for 2 players"),
        ([slot_for(CAST[1], 1), slot_for(CAST[0], 1)], "slot 0 pays 0xb0b0.*: it must pay seat 0"),
        ([slot_for(CAST[0], 1), slot_for(CAST[1], 2)], "stakes differ: 1 and 2"),
        ([slot_for(CAST[0], 1), slot_for(CAST[1], 1, b"\1" * 20)], "slots are in two assets"),
        ([(bytes(20), b"\1" * 32, 1), slot_for(CAST[1], 1)], "slot 0 pays a channel"),
        ([slot_for(CAST[0], 2**255), slot_for(CAST[1], 2**255)], "stakes exceed"),
    ],
)
def test_stakes_the_game_could_not_pay_are_refused(slots: Any, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        Driver(wasm_bytes(), CAST[:2], None, slots)


def test_illegal_moves_say_why() -> None:
    """Each rule broken in turn, each with its reason, and the tables as before."""
    driver = game()
    before = driver.kernel.state_root()

    def refused(seat: int, message: Any, reason: str) -> None:
        root = driver.kernel.state_root()
        with pytest.raises(Refused, match=reason):
            driver.send(seat, message)
        assert driver.kernel.state_root() == root

    refused(0, reveal(1), "round 1 is in phase commit: not all have committed yet")
    driver.send(0, commit(0, 1, 2))
    refused(0, commit(0, 1, 3), "seat 0 has already committed in round 1")
    driver.send(1, {"commit": {"hash": driver.rows("bid")[0]["commitment"]}})  # Bob copies Alice's commitment
    refused(0, commit(0, 1, 3), "round 1 is in phase reveal: commitments are closed")
    refused(0, reveal(4), "card is 4: allowed are 1 to 3")
    refused(0, reveal(3), "card 3 with this salt hashes to 0x.*, committed was 0x")
    driver.send(0, reveal(2))
    refused(0, reveal(2), "seat 0 has already revealed in round 1")
    refused(1, reveal(2), "card 2 with this salt hashes to")
    assert driver.kernel.state_root() != before

    driver = game()
    play_round(driver, [2, 1])
    driver.send(0, commit(0, 2, 2))
    driver.send(1, commit(1, 2, 2))
    refused(0, reveal(2), r"card 2 is not in the hand \[1,3\]")
    with pytest.raises(Refused, match="this game has no deadline"):
        driver.tick()


def test_the_highest_bid_wins_and_a_tie_carries_the_pot_over() -> None:
    driver = game(3)
    prizes = [row["prize"] for row in driver.rows("round")]
    first = play_round(driver, [3, 3, 2])
    assert first == [("round", {"round": 1, "prize": prizes[0], "pot": prizes[0], "winner": None, "card": 3})]
    assert driver.rows("game")[0]["pot"] == prizes[0] + prizes[1]
    play_round(driver, [1, 2, 3])
    last = play_round(driver, [2, 1, 1])
    assert [row["score"] for row in driver.rows("player")] == [prizes[2], 0, prizes[0] + prizes[1]]
    assert last[-1][0] == "game_over"
    assert sorted(item["rank"] for item in last[-1][1]["standings"]) == [1, 2, 3]
    assert driver.rows("game")[0]["phase"] == "over"
    with pytest.raises(Refused, match="the game is over"):
        driver.send(0, commit(0, 3, 1))


def test_silence_past_the_deadline_forfeits_when_somebody_ticks() -> None:
    driver = game(3, {"cards": 3, "move_ms": 1000})
    driver.send(0, commit(0, 1, 1))
    driver.now_ms += 1000
    with pytest.raises(Refused, match="the deadline passes in 1 ms"):
        driver.tick()
    driver.now_ms += 1
    driver.send(1, commit(1, 1, 2))  # late, but nobody has ticked
    assert driver.tick() == [("forfeit", {"round": 1, "seat": 2, "phase": "commit"})]
    assert driver.rows("game")[0]["phase"] == "reveal"
    with pytest.raises(Refused, match="seat 2 has forfeited the game"):
        driver.send(2, commit(2, 1, 1))
    driver.send(0, reveal(1))
    driver.now_ms += 2000
    assert [topic for topic, _ in driver.tick(2)] == ["forfeit", "game_over"]
    players = driver.rows("player")
    assert [player["rank"] for player in players] == [1, 2, 2]
    assert players[0]["score"] == 6


def test_amounts_never_leave_a_revealed_card_worse_than_silence() -> None:
    """Who has shown a card holds the pot until the others show theirs; the sum never changes."""
    driver = game(stake=600)
    pot = driver.rows("game")[0]["pot"]
    driver.send(0, commit(0, 1, 3))
    driver.send(1, commit(1, 1, 1))
    assert driver.amounts == [600, 600]
    driver.send(0, reveal(3))
    assert driver.amounts == [600 + pot * 100, 600 - pot * 100]
    driver.send(1, reveal(1))
    assert driver.amounts == [600 + pot * 100, 600 - pot * 100]


def test_players_talk_whatever_the_game_is_at() -> None:
    """In play, forfeited and after the end; a chat changes no other table, and text has its limits."""
    driver = game(players=3, params={"cards": 3, "move_ms": 1_000})
    before = {table: driver.rows(table) for table in ("game", "player", "round", "bid")}
    driver.send(1, {"chat": {"text": "good luck"}})
    assert {table: driver.rows(table) for table in before} == before
    driver.send(0, commit(0, 1, 1))
    driver.send(1, commit(1, 1, 1))
    driver.now_ms += 2_000
    driver.tick(0)
    driver.send(2, {"chat": {"text": "ü" * 140}})
    driver.now_ms += 2_000
    driver.tick(0)
    assert driver.rows("game")[0]["phase"] == "over"
    driver.send(0, {"chat": {"text": "again?"}})
    assert [(row["seat"], row["text"]) for row in driver.rows("chat")] == [
        (1, "good luck"), (2, "ü" * 140), (0, "again?"),
    ]  # fmt: skip
    for text in ("", "x" * 281):
        with pytest.raises(Refused, match=f"text of {len(text)} bytes: allowed are 1 to 280"):
            driver.send(0, {"chat": {"text": text}})
