"""What a watchtower tells its operator: each challenge once, why an answer waits, and an account that cannot pay."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from scapp.channels.chain.port import ChainStatus, TransactionInfo
from scapp.channels.errors import LocalError
from scapp.channels.onchain import ChainView, Transaction, purpose_of
from scapp.channels.types import Address, ChannelId
from scapp.runtime.api.auth import TokenStore
from scapp.runtime.disputes.packages import PackageStore, read_package
from scapp.runtime.watchtower.tower import TowerServer, Watchtower
from tests.unit.test_dispute_packages import ADJUDICATOR, CHAIN_ID, NOW_S, challenged, package, signed

LACKS = "the account has 0 wei; fees are needed"


class PoorChain:
    """A chain whose account cannot pay: what is wanted waits, with a detail, until the test says otherwise."""

    chain_id, adjudicator, consensus_app = CHAIN_ID, ADJUDICATOR, Address(b"\xc0" * 20)
    head_time_s = NOW_S
    followed_ms = NOW_S * 1_000
    protection = confirming_s = None

    def __init__(self) -> None:
        self.balance, self.outcome = 0, ("waiting", LACKS)
        self.wants: dict[ChannelId, Sequence[Transaction]] = {}

    async def start(self, on_view: Callable[[ChannelId, ChainView], None], on_head: Callable[[int], None]) -> None:
        self.on_view, self.on_head = on_view, on_head

    async def stop(self) -> None: ...

    async def quiet(self) -> None: ...

    async def funds(self, asset: Address) -> int:
        return self.balance

    def watch(
        self, channel: ChannelId, assets: Sequence[Address], since_block: int = 0, fed_by: ChannelId | None = None
    ) -> None: ...

    def unwatch(self, channel: ChannelId) -> None: ...

    def want(self, channel: ChannelId, wanted: Sequence[Transaction]) -> None:
        self.wants[channel] = wanted

    def transactions(self, channel: ChannelId) -> list[TransactionInfo]:
        status, detail = self.outcome
        return [
            TransactionInfo(purpose_of(channel, each), status, detail=detail) for each in self.wants.get(channel, ())
        ]

    def status(self) -> ChainStatus:
        return ChainStatus(
            chain_id=CHAIN_ID, adjudicator=ADJUDICATOR, consensus_app=self.consensus_app, account=Address(b"\xaa" * 20),
            balance=self.balance, head=9, head_time_s=NOW_S, processed=9, confirmations=2, lag_blocks=0,
            endpoints=(), endpoint="", watched=1, pending=0, fault="",
        )  # fmt: skip


async def test_a_challenge_is_told_once_and_again_when_its_answer_gets_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Blocks come every few seconds; the log says only what is new, and the status why an answer waits."""
    caplog.set_level(logging.WARNING, "scapp.watchtower")
    chain = PoorChain()
    tower = Watchtower(chain, PackageStore(tmp_path, CHAIN_ID, ADJUDICATOR, 10))
    await tower.start()
    data = package(signed(5))
    assert tower.keep(data)
    channel = read_package(data, CHAIN_ID, ADJUDICATOR).channel
    chain.on_view(channel, challenged(3))
    for _ in range(3):
        chain.on_head(NOW_S)
    answers = [text for text in caplog.messages if "refutes" in text]
    assert len(answers) == 1
    assert answers[0].endswith(f"a challenge at turn 3 stands until block time {NOW_S + 60}; turn 5 refutes it; "
                               f"checkpoint: waiting, {LACKS}")  # fmt: skip
    assert tower.status().channels[0].transactions == [f"checkpoint: waiting, {LACKS}"]
    chain.outcome = ("pending", "")
    chain.on_head(NOW_S)
    assert [text for text in caplog.messages if "refutes" in text][1:] == [
        answers[0].replace(f"waiting, {LACKS}", "pending")
    ]
    await tower.stop()


async def test_an_empty_account_is_told_once_each_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A tower that cannot pay protects nobody."""
    chain = PoorChain()
    tower = Watchtower(chain, PackageStore(tmp_path, CHAIN_ID, ADJUDICATOR, 10))
    await tower.start()
    told = []
    for balance in (0, 0, 7, 0):
        chain.balance = balance
        chain.on_head(NOW_S)
        told.append(sum("has no coin" in text for text in caplog.messages))
    await tower.stop()
    assert told == [1, 1, 1, 2]


async def test_a_taken_address_names_the_flag(tmp_path: Path) -> None:
    """As for a node."""
    tower = Watchtower(PoorChain(), PackageStore(tmp_path / "packages", CHAIN_ID, ADJUDICATOR, 10))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = TowerServer(tower, TokenStore(tmp_path), f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(LocalError, match="another program listens there; choose another with --listen"):
            await server.start()
        await server.stop()
