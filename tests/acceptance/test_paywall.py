"""The paywall as its user runs it: two nodes over a real EVM, an ordinary file server behind it, programs that buy."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from scapp.runtime.cli.amounts import COIN
from scapp.runtime.cli.processes import free_ports
from tests.support.cluster import eventually
from tests.support.funded_cluster import FundedCluster, funded_cluster, quick_chain
from tests.support.tree import ROOT

pytestmark = pytest.mark.slow
DEPOSIT = 10**15
CONTENT = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(250))  # 8,000 bytes
PRICE = 10 + 2 * 8


@contextlib.contextmanager
def program(*arguments: str, cwd: Path = ROOT) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen([sys.executable, *arguments], cwd=cwd, env=environment, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=20)


def until_open(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.1)
    raise TimeoutError(f"nobody listens on port {port}")


def buy(nodes: FundedCluster, url: str, channel: str, limit: int, *more: str) -> subprocess.CompletedProcess[bytes]:
    command = ("-m", "examples.paywall", "buy", "-C", str(nodes.nodes["alice"].home), url, "--channel", channel)
    with program(*command, "--limit", str(limit), *more) as process:
        _, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, b"", errors)


def test_files_are_bought_over_a_payment_channel(tmp_path: Path) -> None:
    """402 first, then the whole file for its price; a restart of the paywall forgets no spending; a voucher file brings
    what the payer's node could not; and in the end the payee gets what was paid."""
    files, output = tmp_path / "files", tmp_path / "out"
    files.mkdir()
    (files / "data.bin").write_bytes(CONTENT)
    service, front = free_ports(2)
    url = f"http://127.0.0.1:{front}/data.bin"
    with quick_chain() as chain, funded_cluster(2, chain) as nodes:
        alice, bob = nodes.client("alice"), nodes.client("bob")
        ledger = alice.open_ledger("bob", {COIN: DEPOSIT}, challenge_duration_s=3_600, wait_s=60)
        assert ledger.phase == "running", ledger
        channel = alice.open_payments("bob", COIN, 1_000, wait_s=30).channel_id
        eventually(lambda: True if bob.virtual(channel).phase == "running" else None, lambda: str(bob.virtuals()))
        serve = ("-m", "http.server", str(service), "--bind", "127.0.0.1")
        sell = (
            "-m", "examples.paywall", "sell", "-C", str(nodes.nodes["bob"].home), "--service", f"http://127.0.0.1:{service}",
            "--listen", f"127.0.0.1:{front}", "--request", "10", "--body", "2/1000", "--spending", str(tmp_path / "db"),
        )  # fmt: skip
        with program(*serve, cwd=files):
            until_open(service)
            with program(*sell):
                until_open(front)
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(url, timeout=10)
                with refused.value as answer:
                    assert answer.code == 402
                    assert json.load(answer)["payee"] == bob.status().address
                poor = buy(nodes, url, channel, PRICE - 1, "-o", str(output))
                assert poor.returncode == 1, poor.stderr
                assert b"the limit is" in poor.stderr
                bought = buy(nodes, url, channel, PRICE, "-o", str(output))
                assert bought.returncode == 0, bought.stderr
                assert output.read_bytes() == CONTENT
            with program(*sell):
                until_open(front)
                streamed = buy(nodes, url, channel, 500, "--stream", "-o", str(output))
                assert streamed.returncode == 0, streamed.stderr
                assert output.read_bytes() == CONTENT
        paid = int(alice.virtual(channel).paid)
        assert paid >= 2 * PRICE
        voucher = alice.pay(channel, 5).voucher
        assert int(bob.take_voucher(voucher).paid) == paid + 5
        assert alice.payments(channel).rows[0].kind == "opened"
        assert bob.close_virtual(channel, wait_s=30).phase == "released"
        mine = eventually(
            lambda: next((each for each in bob.ledger(ledger.channel_id).assets if int(each.mine) == paid + 5), None),
            lambda: str(bob.ledgers()),
        )
        assert mine.asset == COIN
