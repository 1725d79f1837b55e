"""What a node keeps and decides beside its channels: peers list, apps, and which proposals it accepts."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from scapp.channels.crypto import keccak256
from scapp.channels.deployment import Limits
from scapp.channels.errors import CorruptionError, LocalError
from scapp.channels.types import Address
from scapp.runtime.config import Config, ConfigError, FundingSettings, PolicySettings
from scapp.runtime.deployments import DeploymentStore, UnknownApp
from scapp.runtime.peerbook import PeerBook
from scapp.runtime.policy import AcceptPolicy, FundingPolicy
from tests.support.api_harness import RAW_WASM, WASM, inspect
from tests.support.fake_service import ALICE, BOB, CAROL


@pytest.fixture
def apps(tmp_path: Path) -> DeploymentStore:
    return DeploymentStore(tmp_path / "deployments", inspect)


@pytest.fixture
def peers(tmp_path: Path) -> PeerBook:
    return PeerBook(tmp_path)


def policy(apps: DeploymentStore, peers: PeerBook, accept: str, *allow: bytes) -> AcceptPolicy:
    settings = PolicySettings(accept=accept, allow=tuple("0x" + a.hex() for a in allow))  # type: ignore[arg-type]
    return AcceptPolicy(settings, apps, peers, ALICE)


COIN, TOKEN = Address(bytes(20)), Address(b"\x70" * 20)
LIMITS = {
    "accept": "limits",
    "deposit_max": {"coin": "100", "0x" + TOKEN.hex(): "5"},
    "exposure_max": {"coin": "150", "0x" + TOKEN.hex(): "5"},
}


def funding(**settings: object) -> FundingPolicy:
    return FundingPolicy(FundingSettings(**settings), [ALICE])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("deposits", "at_stake", "reason"),
    [
        ({COIN: 100}, {BOB: {}}, ""),
        ({COIN: 50, TOKEN: 5}, {BOB: {COIN: 100}, CAROL: {}}, ""),
        ({}, {BOB: {COIN: 10**9}}, ""),
        ({COIN: 101}, {BOB: {}}, "a deposit of 101 wei; funding.deposit_max allows 100"),
        ({TOKEN: 6}, {BOB: {}}, f"a deposit of 6 of token 0x{TOKEN.hex()}"),
        ({Address(b"\x71" * 20): 1}, {BOB: {}}, "allows 0"),
        ({COIN: 51}, {BOB: {}, CAROL: {COIN: 100}}, f"151 wei would be in channels with 0x{CAROL.hex()}"),
    ],
)
def test_deposits_are_bounded_per_channel_and_per_counterparty(
    deposits: dict[Address, int], at_stake: dict[Address, dict[Address, int]], reason: str
) -> None:
    """An asset without a limit is not paid at all; what is in open channels counts as well."""
    found = funding(**LIMITS).why_not(deposits, [bytes(12) + ALICE], at_stake)
    assert found.startswith(reason) if reason.startswith("a dep") else reason in found
    assert bool(found) == bool(reason)


def test_by_default_every_deposit_is_asked_for() -> None:
    """Even one of nothing: a channel on chain costs fees, and its outcome may owe."""
    assert "ask" in funding().why_not({}, [bytes(12) + ALICE], {BOB: {}})


def test_our_part_is_paid_to_our_accounts_only() -> None:
    """A proposer names where we are paid; anything but our own accounts is asked about."""
    found = funding(**LIMITS).why_not({COIN: 1}, [bytes(12) + BOB], {BOB: {}})
    assert f"0x{BOB.hex()}, which is not in funding.pay_to" in found
    also = funding(**LIMITS, pay_to=("0x" + BOB.hex(),))
    assert also.why_not({COIN: 1}, [bytes(12) + BOB, bytes(12) + ALICE], {BOB: {}}) == ""


@pytest.mark.parametrize("limits", [{"coin": "-1"}, {"coin": "1.5"}, {"gold": "1"}, {"coin": ""}])
def test_limits_that_cannot_be_read_are_refused_by_name(limits: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"funding\.deposit_max"):
        funding(deposit_max=limits)


# -- policy -------------------------------------------------------------------------------------------------------


def test_the_default_needs_a_known_app_and_known_peers(apps: DeploymentStore, peers: PeerBook) -> None:
    """All other participants must be in the list, not only the one who proposes; additions count at once."""
    found = policy(apps, peers, "known-deployments")
    app_id = b"\x01" * 32
    assert "not known here" in found.why_not(app_id, (BOB, ALICE))
    app_id = apps.add(WASM).id
    assert "peers list" in found.why_not(app_id, (BOB, ALICE))
    peers.add(BOB, "h:1")
    assert found.why_not(app_id, (BOB, ALICE)) == ""
    assert CAROL.hex() in found.why_not(app_id, (BOB, ALICE, CAROL))
    peers.add(CAROL, "h:2")
    assert found.why_not(app_id, (BOB, ALICE, CAROL)) == ""


def test_the_allow_list_is_about_addresses(apps: DeploymentStore, peers: PeerBook) -> None:
    """A peer that is not on it waits, and one on it needs no entry in the peers list."""
    found = policy(apps, peers, "allow-list", BOB)
    app_id = apps.add(WASM).id
    peers.add(CAROL, "h:1")
    assert found.why_not(app_id, (BOB, ALICE)) == ""
    assert "policy.allow" in found.why_not(app_id, (CAROL, ALICE))
    assert "not known here" in found.why_not(b"\x02" * 32, (BOB, ALICE))


def test_none_accepts_nothing(apps: DeploymentStore, peers: PeerBook) -> None:
    """Whoever asks, for whatever."""
    peers.add(BOB, "h:1")
    assert "operator" in policy(apps, peers, "none", BOB).why_not(apps.add(WASM).id, (BOB, ALICE))


def test_an_allow_list_with_a_typo_is_refused(apps: DeploymentStore, peers: PeerBook) -> None:
    with pytest.raises(ConfigError, match="0x12"):
        AcceptPolicy(PolicySettings(accept="allow-list", allow=("0x12",)), apps, peers, ALICE)


# -- peers --------------------------------------------------------------------------------------------------------


def test_peers_survive_a_restart(tmp_path: Path) -> None:
    """Address, endpoint and name; a change of endpoint keeps the name."""
    PeerBook(tmp_path).add(BOB, "h:1", "bob")
    PeerBook(tmp_path).add(BOB, "h:2")
    (found,) = PeerBook(tmp_path).all()
    assert (found.raw, found.endpoint, found.name) == (BOB, "h:2", "bob")
    assert (tmp_path / "peers.json").stat().st_mode & 0o777 == 0o600


def test_a_peer_that_is_removed_is_trusted_no_longer(tmp_path: Path) -> None:
    """Now and after a restart; one of the configuration only there."""
    book = PeerBook(tmp_path, Config(peers={"carol": f"0x{CAROL.hex()}@h:3"}))
    book.add(BOB, "h:1", "bob")
    assert book.remove(BOB).name == "bob"
    for each in (book, PeerBook(tmp_path)):
        assert BOB not in each
    for address, says in ((BOB, "not in the peers list"), (CAROL, r"carol stands in \[peers\]")):
        with pytest.raises(LocalError, match=says):
            book.remove(address)


def test_a_peer_that_is_removed_does_not_come_back_with_the_setting_gone(tmp_path: Path) -> None:
    """Who is in the file and in the configuration goes out of the file, and is said to be in the other."""
    PeerBook(tmp_path).add(BOB, "h:1", "bob")
    book = PeerBook(tmp_path, Config(peers={"robert": f"0x{BOB.hex()}@h:2"}))
    with pytest.raises(LocalError, match=r"robert is out of the stored list, but stands in \[peers\]"):
        book.remove(BOB)
    assert BOB in book
    assert BOB not in PeerBook(tmp_path)


def test_configured_peers_stay_out_of_the_file(tmp_path: Path) -> None:
    """They win over the stored ones, and go with the setting."""
    config = Config(peers={"robert": f"0x{BOB.hex()}@new:2"})
    book = PeerBook(tmp_path, config)
    book.add(CAROL, "h:3", "carol")
    assert {p.name for p in book.all()} == {"robert", "carol"}
    assert [p.name for p in PeerBook(tmp_path).all()] == ["carol"]


@pytest.mark.parametrize(
    "text", ["mallory", "0x12", "0x" + "zz" * 20, "", "b0b0", "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD"]
)
def test_who_is_not_known_cannot_be_meant(peers: PeerBook, text: str) -> None:
    peers.add(BOB, "h:1", "bob")
    with pytest.raises(LocalError, match="known: bob"):
        peers.resolve(text)
    assert peers.resolve("bob") == peers.resolve(BOB.hex()) == peers.resolve("0x" + BOB.hex().upper()) == BOB


@pytest.mark.parametrize("endpoint", ["h", ":1", "h:x", "h:65536", ""])
def test_an_endpoint_that_is_none_is_refused(peers: PeerBook, endpoint: str) -> None:
    with pytest.raises(LocalError, match="host:port"):
        peers.add(BOB, endpoint)
    assert BOB not in peers


def test_a_damaged_peers_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "peers.json").write_text("[{]")
    with pytest.raises(LocalError, match=r"peers\.json"):
        PeerBook(tmp_path)


# -- apps ---------------------------------------------------------------------------------------------------------


def test_apps_survive_a_restart_whole(tmp_path: Path) -> None:
    """Manifest, limits, bytes; and both deployments of one module."""
    store = DeploymentStore(tmp_path, inspect)
    first, second = store.add(WASM), store.add(WASM, Limits(rows_max=7))
    again = DeploymentStore(tmp_path, inspect)
    assert {app.id: app for app in again.all()} == {first.id: first, second.id: second}
    assert again.wasm(keccak256(WASM)) == WASM
    assert again.wasm(b"\x00" * 32) is None
    table = first.table("score")
    assert table is not None
    assert table.key == 1
    assert first.table("nothing") is None


def test_a_module_that_is_refused_leaves_no_file(tmp_path: Path) -> None:
    store = DeploymentStore(tmp_path, inspect)
    with pytest.raises(ValueError, match="00 61 73 6d"):
        store.add(b"MZ")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_full_disk_leaves_no_file_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says where; once there is room the same deploy works."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = DeploymentStore(tmp_path, inspect)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            store.add(WASM)
    assert str(tmp_path) in str(caught.value.filename)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert store.all() == []
    assert [store.add(WASM)] == store.all()


def test_a_deploy_that_was_interrupted_does_not_count(tmp_path: Path) -> None:
    """The canonical bytes are written last: without them there is no deployment, and deploying again mends it."""
    app = DeploymentStore(tmp_path, inspect).add(WASM)
    (tmp_path / f"{app.id.hex()}.deployment").unlink()
    again = DeploymentStore(tmp_path, inspect)
    assert again.all() == []
    assert again.add(WASM).id == app.id


def test_changed_files_are_found_and_mended_by_deploying_again(tmp_path: Path) -> None:
    """Other bytes under a hash, or none, are corruption and not another app; the error's advice works."""
    store = DeploymentStore(tmp_path, inspect)
    app = store.add(WASM)
    module = tmp_path / "modules" / f"{keccak256(WASM).hex()}.wasm"
    module.write_bytes(WASM + b"x")
    with pytest.raises(CorruptionError, match="other bytes"):
        store.wasm(keccak256(WASM))
    assert store.add(WASM) == app
    assert store.wasm(keccak256(WASM)) == WASM
    module.unlink()
    assert store.wasm(keccak256(WASM)) is None
    assert store.add(WASM) == app
    assert store.wasm(keccak256(WASM)) == WASM


def test_one_broken_deployment_keeps_no_other_from_being_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in the log, and deploying its module again brings it back under the same id."""
    store = DeploymentStore(tmp_path, inspect)
    app, other = store.add(WASM), store.add(RAW_WASM)
    for name, data in ((f"{app.id.hex()}.deployment", b"\x93"), (f"{app.id.hex()}.json", b"{}")):
        (tmp_path / name).write_bytes(data)
        caplog.clear()
        again = DeploymentStore(tmp_path, inspect)
        assert [found.id for found in again.all()] == [other.id]
        assert f"{app.id.hex()}.deployment cannot be read" in caplog.text
        assert again.add(WASM).id == app.id
        assert {found.id for found in DeploymentStore(tmp_path, inspect).all()} == {app.id, other.id}


def test_a_name_means_the_latest_and_an_id_may_be_short(tmp_path: Path) -> None:
    """Eight digits at least; what fits nothing names what there is."""
    times = iter(range(1, 10))
    store = DeploymentStore(tmp_path, inspect, lambda: next(times))
    first, second, raw = store.add(WASM), store.add(WASM, Limits(rows_max=7)), store.add(RAW_WASM)
    assert store.resolve("duel") == second
    assert store.resolve("raw") == raw
    assert store.resolve("0x" + first.id.hex()) == store.resolve(first.id.hex()[:8].upper()) == first
    for text in ("chess", first.id.hex()[:7], "", "0x"):
        with pytest.raises(UnknownApp, match="duel, raw"):
            store.resolve(text)
