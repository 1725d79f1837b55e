"""The development chain: contracts are on it, and it computes what the machine of the other tests computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scapp.channels.chain import contracts
from tests.chain.anvil import RpcError, hexed, running
from tests.chain.cast import DEPLOYER
from tests.chain.evm import Evm
from tests.chain.interface import Interface
from tests.chain.replay import unhex

GOLDEN = Path(__file__).parents[1] / "golden" / "nitro-vectors.json"


@pytest.fixture(scope="module")
def chain():
    """One chain for the tests of this file."""
    with running() as started:
        yield started


def test_all_contracts_are_deployed_at_start(chain):
    """Each has the code that ships, at the address in `contracts`."""
    for name in contracts.NAMES:
        code = unhex(chain.rpc("eth_getCode", hexed(chain.contracts[name]), "latest"))
        wanted = contracts.load(name).deployed_bytecode
        assert len(code) == len(wanted)
        assert code == wanted or name == "BatchOperator"  # which has an address written into it
    adjudicator = Interface(contracts.load("BatchOperator").abi).call("adjudicator")
    call = {"to": hexed(chain.contracts["BatchOperator"]), "data": hexed(adjudicator)}
    assert unhex(chain.rpc("eth_call", call, "latest"))[12:] == chain.contracts["NitroAdjudicator"]


def test_two_machines_agree_on_every_step_of_a_scenario(chain):
    """Deposits, conclusion, payout and replay: success, gas, events and status on anvil and on py-evm."""
    machine = Evm()
    machine.fund(DEPLOYER, 10**24)
    for name in ("NitroAdjudicator", "ConsensusApp"):
        assert machine.deploy(DEPLOYER, contracts.load(name).creation_code()).created == chain.contracts[name]
    scenario = json.loads(GOLDEN.read_bytes())["onchain"]["scenarios"][0]
    adjudicator = chain.contracts["NitroAdjudicator"]
    start = int(chain.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    for number, step in enumerate(scenario["steps"], 1):
        sender, data, value = unhex(step["from"]), unhex(step["calldata"]), int(step["value"])
        machine.timestamp = start + 100 * number
        for side in (machine, chain):
            side.fund(sender, 10**24)
        here = machine.send(sender, adjudicator, data, value)
        chain.rpc("evm_setNextBlockTimestamp", machine.timestamp)
        there = chain.send(sender, adjudicator, data, value)
        assert (here.ok, here.gas) == (there["status"] == "0x1", int(there["gasUsed"], 16)), step["name"]
        logs = [(tuple(map(unhex, log["topics"])), unhex(log["data"])) for log in there["logs"]]
        assert [(log.topics, log.data) for log in here.logs] == logs, step["name"]


def test_a_revert_reason_comes_back(chain):
    """As an error of the chain that names it."""
    call = Interface(contracts.load("NitroAdjudicator").abi).call("deposit", bytes(20), bytes(32), 0, 1)
    transaction = {"to": hexed(chain.contracts["NitroAdjudicator"]), "data": hexed(call)}
    with pytest.raises(RpcError, match="Deposit to external destination"):
        chain.rpc("eth_call", transaction, "latest")


def test_a_chain_that_cannot_start_says_why(chain):
    """Here its port is taken; nothing is left running."""
    port = int(chain.url.rpartition(":")[2])
    with pytest.raises(OSError, match=r"(?s)anvil ended with status 1: .*in use"), running(port):
        pass


def test_a_busy_chain_does_not_stop(chain):
    """What it says of its blocks is read; unread it would stop after a few hundred."""
    first = int(chain.rpc("eth_blockNumber"), 16)
    for _ in range(600):
        chain.rpc("evm_mine")
    assert int(chain.rpc("eth_blockNumber"), 16) == first + 600
