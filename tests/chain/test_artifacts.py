"""The compiled contracts that ship with the package: current, complete, and compatible with the published ones."""

from __future__ import annotations

import json

import pytest

from scapp.channels.chain import contracts
from tests.chain import cast, published
from tests.chain.interface import type_of


def entries(abi, kind):
    """Name to all that an ABI says about it but the Solidity types behind its own."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items() if key != "internalType"}
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    return {item["name"]: plain(item) for item in abi if item["type"] == kind}


def test_the_artifacts_are_current():
    """Sources, settings and compiler are those that the artifacts were built from; if not: `make contracts`."""
    build = published.build()
    recorded = json.loads((contracts.FOLDER / "build.json").read_bytes())
    assert recorded["digest"] == build.digest(build.sources())


def test_every_named_contract_ships_and_no_other():
    """NAMES and the folder agree."""
    files = {path.stem for path in contracts.FOLDER.glob("*.json")} - {"build"}
    assert files == set(contracts.NAMES)
    assert all(contracts.load(name).bytecode for name in contracts.NAMES)


def test_an_unknown_contract_is_an_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match="'Nitro'; there are NitroAdjudicator"):
        contracts.load("Nitro")


@pytest.mark.parametrize("addresses", [(), (bytes(20), bytes(20)), (bytes(19),)])
def test_constructor_arguments_are_checked(addresses):
    """Wrong numbers and lengths are refused, and shown."""
    with pytest.raises(ValueError, match="Token is created with 1 addresses of 20 bytes"):
        contracts.load("Token").creation_code(*addresses)


def test_contracts_fit_the_size_limit():
    """EIP-170: 24 576 bytes."""
    assert all(len(contracts.load(name).deployed_bytecode) <= 24_576 for name in contracts.NAMES)


def test_the_adjudicator_keeps_its_state_where_the_published_one_does():
    """statusOf in slot 0 and holdings in slot 1, so that tools that read storage work with both; ours follows."""
    layout = json.loads((contracts.FOLDER / "NitroAdjudicator.json").read_bytes())["storageLayout"]
    assert layout == [
        {"label": "_statusOf", "slot": "0", "offset": 0},
        {"label": "_holdings", "slot": "1", "offset": 0},
        {"label": "_isVirtual", "slot": "2", "offset": 0},
    ]


@pytest.mark.parametrize("name", ["NitroAdjudicator", "ConsensusApp", "VirtualPaymentApp", "BatchOperator", "Token"])
def test_the_abi_has_all_that_the_published_one_has(name):
    """Functions and events with the same names, types, parameter names and mutability. What the published Token has
    beyond ERC20 metadata and allowances is not asked for."""
    ours, theirs = contracts.load(name).abi, published.load(name).abi
    for kind in ("function", "event"):
        wanted, found = entries(theirs, kind), entries(ours, kind)
        assert wanted.keys() <= found.keys()
        for key, item in wanted.items():
            if name == "Token":  # its parameters have other names
                assert [type_of(i) for i in found[key]["inputs"]] == [type_of(i) for i in item["inputs"]]
            else:
                for mine, its in zip(found[key]["inputs"], item["inputs"], strict=True):
                    mine["name"] = its["name"] and mine["name"]  # where it has no name, ours may have one
                assert found[key] == item


def test_contracts_for_tests_do_not_ship():
    """They are compiled by the same command into the tests' own folder."""
    assert cast.for_tests("Puppet").bytecode
    assert not (contracts.FOLDER / "Puppet.json").exists()
