"""A development chain in a process of its own, with the contracts on it: for demos, and tests that span processes.

anvil's native binary comes from npm, pinned in `devchain_node/`; the first start installs it into the user's cache, and
nothing but it runs afterwards. Accounts need no keys: the chain signs for any sender.
"""

from __future__ import annotations

import collections
import http.client
import json
import platform
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from scapp.channels.chain import contracts
from scapp.reducers import nodejs

PACKAGE = Path(__file__).with_name("devchain_node")
CHAIN_ID = 1337
RPC_TIMEOUT_S = 30
DEPLOYER = bytes.fromhex("9da3bc37856c890db6088302477c62a66302a995")  # so that addresses are the same on every chain
MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def binary(cache: Path | None = None) -> Path:
    """The program; the first call installs it below `cache`. Raises OSError where npm has none for this machine."""
    system, machine = platform.system().lower(), platform.machine().lower()
    name = f"anvil-{system}-{MACHINES.get(machine, machine)}"
    modules = nodejs.install(PACKAGE, nodejs.cache_folder() if cache is None else cache)
    path = modules / "@foundry-rs" / name / "bin" / "anvil"
    if not path.exists():
        raise OSError(f"there is no anvil for {system} on {machine}: the npm package has no {name}")
    return path


class RpcError(Exception):
    """What the chain answered instead of a result."""


class Chain:
    """A running chain. `contracts` has the address of each shipped contract by its name."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.contracts: dict[str, bytes] = {}
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=RPC_TIMEOUT_S)

    def rpc(self, method: str, *parameters: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
        self._connection.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = json.loads(self._connection.getresponse().read())
        if "error" in answer:
            raise RpcError(f"{method}: {answer['error'].get('message')}")
        return answer["result"]

    def send(self, sender: bytes, to: bytes | None, data: bytes, value: int = 0) -> dict[str, Any]:
        """Send a transaction in a block of its own; its receipt. With a gas limit, one that reverts is sent too."""
        transaction = {"from": hexed(sender), "data": hexed(data), "value": hex(value), "gas": hex(20_000_000)}
        if to is not None:
            transaction["to"] = hexed(to)
        sent = self.rpc("eth_sendTransaction", transaction)
        self.rpc("evm_mine")
        done: dict[str, Any] = self.rpc("eth_getTransactionReceipt", sent)
        return done

    def fund(self, address: bytes, wei: int = 10**24) -> None:
        self.rpc("anvil_setBalance", hexed(address), hex(wei))

    def deploy(self) -> None:
        """Put all shipped contracts on the chain, in the order of NAMES, from the same account on every chain."""
        self.fund(DEPLOYER)
        for name in contracts.NAMES:
            given = {"BatchOperator": self.contracts.get("NitroAdjudicator", b""), "Token": DEPLOYER}
            arguments = [given[name]] if name in given else []
            receipt = self.send(DEPLOYER, None, contracts.load(name).creation_code(*arguments))
            self.contracts[name] = bytes.fromhex(receipt["contractAddress"][2:])

    def close(self) -> None:
        self._connection.close()


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


@contextmanager
def running(
    port: int = 0,
    *,
    program: Path | None = None,
    block_seconds: float | None = None,
    base_fee_wei: int = 0,
    gas_price_wei: int = 0,
    hardfork: str = "shanghai",
    options: Sequence[str] = (),
) -> Iterator[Chain]:
    """A fresh chain with the contracts deployed; it ends with the block. Port 0 takes a free one.

    Without `block_seconds` it mines when it is told to (`evm_mine`; `evm_setAutomine` changes that): left to itself,
    anvil answers before the block of a transaction is there. Shanghai rules, whose gas is that of the tests' machine;
    under older ones the contracts do not work, and are not deployed.
    Raises OSError with what anvil said when it does not start."""
    # By the option, which takes parts of a second; `evm_setIntervalMining` does not.
    mining = ("--no-mining",) if block_seconds is None else ("--block-time", str(block_seconds))
    command = [
        str(program or binary()), "--port", str(port), "--chain-id", str(CHAIN_ID), "--hardfork", hardfork,
        "--auto-impersonate", "--accounts", "1", "--gas-limit", "30000000",
        "--block-base-fee-per-gas", str(base_fee_wei), "--gas-price", str(gas_price_wei), *mining, *options,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        chain = Chain(_port_of(process, process.stdout))
        # What it says of each block would fill the pipe and stop it.
        drain = threading.Thread(target=collections.deque, args=(process.stdout, 0), daemon=True)
        drain.start()
        try:
            if hardfork == "shanghai":
                chain.deploy()
            yield chain
        finally:
            chain.close()
            process.terminate()
            drain.join()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def _port_of(process: subprocess.Popen[str], output: IO[str]) -> int:
    """Where it listens, once it does; raises OSError with what it said when it ends before."""
    said = []
    for line in output:
        said.append(line)
        if line.startswith("Listening on "):
            return int(line.rpartition(":")[2])
    raise OSError(f"anvil ended with status {process.wait()}: {''.join(said)[-800:]}")
