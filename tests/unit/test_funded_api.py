"""Funded channels as their owner asks for them and sees them: stakes, payouts, disputes, money in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from scapp.channels.channel.standing import ChannelOnChainInfo
from scapp.channels.errors import CorruptionError, LocalError
from scapp.channels.types import Address, ChannelId
from scapp.runtime.api.auth import TokenStore
from scapp.runtime.chain_documents import ChainStatusView
from scapp.runtime.cli.amounts import COIN, amount_text, parse_amount, parse_stake, time_text
from scapp.runtime.cli.main import scapp
from scapp.runtime.client import Client, NotAllowed, Refused
from scapp.runtime.keys_file import new_key
from tests.support.api_harness import Harness, served
from tests.support.fake_service import ALICE, BOB, CAROL

TOKEN = "0x" + "70" * 20
ACCOUNT = "0x" + "ac" * 20
ON_CHAIN = ChannelOnChainInfo(
    assets=(Address(bytes(20)), Address(bytes.fromhex(TOKEN[2:]))),
    needed=(10**18, 14), own=(5 * 10**17, 7), holdings=(10**18, 7), confirmed=(0, 7),
    mode="challenge", turn_record=4, finalizes_at=1_790_000_000, challenge_duration=60,
    exit_reason="silence", settled=False,
)  # fmt: skip


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Harness]:
    with served(tmp_path / "alice") as harness:
        harness.client.add_peer("0x" + BOB.hex(), "127.0.0.1:1", "bob")
        harness.client.add_peer("0x" + CAROL.hex(), "127.0.0.1:2", "carol")
        harness.deploy()
        yield harness


def run(node: Harness, *args: str, stdin: str = "") -> Result:
    return CliRunner().invoke(scapp, ["-C", str(node.home), *args], input=stdin)


def destination(address: Address) -> bytes:
    return bytes(12) + address


@pytest.mark.parametrize(
    ("text", "wei"),
    [("0", 0), ("5", 5), ("5wei", 5), ("1_000", 1000), ("3 gwei", 3 * 10**9), ("0.1ETH", 10**17), ("1e3", 1000)],
)
def test_amounts_of_coin(text: str, wei: int) -> None:
    """The unit may be left out, and then it is the smallest."""
    assert parse_amount(text) == wei


@pytest.mark.parametrize("text", ["", "eth", "-1", "1.5", "0.0000000001gwei", "nan", "inf", "1e99", "0x10", "5 eur"])
def test_what_is_no_amount(text: str) -> None:
    """Neither parts of a wei nor what no 256 bits hold."""
    with pytest.raises(click.BadParameter, match="is no amount"):
        parse_amount(text)


def test_amounts_of_tokens_have_no_unit() -> None:
    """Nobody but the token knows its decimals."""
    most = 2**256 - 1
    assert parse_stake(f"{most}:{TOKEN}") == (TOKEN, most)
    assert parse_stake("2gwei") == (COIN, 2 * 10**9)
    with pytest.raises(click.BadParameter, match="token's smallest unit"):
        parse_stake(f"1eth:{TOKEN}")


def test_amounts_in_words() -> None:
    """Short where it is short in coin, exact always."""
    assert amount_text("12", COIN) == "12 wei"
    assert amount_text(str(10**17), COIN) == "0.1 eth"
    assert amount_text(str(10**20), COIN) == "100 eth"
    assert amount_text("12", TOKEN) == f"12 of {TOKEN}"


def test_a_time_that_no_calendar_reaches_is_a_number() -> None:
    """A challenge may end millions of years from now: the contract takes 48 bits."""
    assert time_text(2**48 - 1) == f"second {2**48 - 1}"


def test_equal_stakes_become_slots(node: Harness) -> None:
    """Per asset one slot for each participant in their order; paid to the channel addresses without a chain account."""
    stakes = {COIN: 5, TOKEN: 7}
    node.client.open_channel(["bob", "carol"], "duel", fund="direct", stakes=stakes, payouts={"carol": ACCOUNT})
    (request,) = node.service.requests
    to = (destination(ALICE), destination(BOB), bytes(12) + bytes.fromhex(ACCOUNT[2:]))
    coin, token = bytes(20), bytes.fromhex(TOKEN[2:])
    assert request.fund == "direct"
    assert request.slots == (*((coin, each, 5) for each in to), *((token, each, 7) for each in to))


def test_the_command_line_says_the_same(node: Harness) -> None:
    """Units, payouts and the dispute window arrive."""
    done = run(
        node, "channel", "open", "bob", "--app", "duel", "--fund", "direct", "--stake", "2gwei", "--payout",
        f"bob={ACCOUNT}", "--challenge-duration", "7200",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    (request,) = node.service.requests
    assert request.challenge_duration == 7200
    assert [amount for _, _, amount in request.slots] == [2 * 10**9] * 2
    assert request.slots[1][1][12:].hex() == ACCOUNT[2:]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fund": "none"}, "they need `fund`"),
        ({"payouts": {"0x" + "99" * 20: ACCOUNT}}, "no participant"),
        ({"payouts": {"carol": ACCOUNT}}, "no participant"),
        ({"stakes": {}, "payouts": {"bob": ACCOUNT}}, "belong to `stakes`"),
    ],
)
def test_stakes_that_are_refused(node: Harness, changes: dict[str, object], says: str) -> None:
    """Each with what is wrong, and nothing is opened."""
    wanted = {"fund": "direct", "stakes": {COIN: 5}, **changes}
    with pytest.raises(Refused, match=says):
        node.client.open_channel(["bob"], "duel", **wanted)  # type: ignore[arg-type]
    assert node.service.requests == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((), "--fund direct needs --stake"),
        (("--stake", "1ether"), "--stake: '1ether' is no amount"),
        (("--stake", "100:0xTOKEN"), "--stake: '0xTOKEN' is no address"),
    ],
)
def test_deposits_that_the_command_line_refuses(node: Harness, given: tuple[str, ...], says: str) -> None:
    """By the option's name, before anything is asked of the node."""
    done = run(node, "channel", "open", "bob", "--app", "duel", "--fund", "direct", *given)
    assert done.exit_code == 2
    assert says in done.stderr
    assert node.service.requests == []


def test_one_asset_is_staked_once(node: Harness) -> None:
    """Two stakes of one asset are more likely a mistake than a sum."""
    done = run(node, "channel", "open", "bob", "--app", "duel", "--fund", "direct", "--stake", "5", "--stake", "6")
    assert done.exit_code == 2
    assert "named twice" in done.stderr


def test_leaving_asks_first(node: Harness) -> None:
    """There is no way back, so a person is asked; a program says --yes or --json."""
    channel = "0x" + node.channel().hex()
    refused = run(node, "channel", "challenge", channel, "--wait", "0", stdin="n\n")
    assert refused.exit_code != 0
    assert node.client.channel(channel).phase == "running"
    assert run(node, "channel", "checkpoint", channel).exit_code == 0
    done = run(node, "channel", "challenge", channel, "--yes", "--wait", "0", "--json")
    assert json.loads(done.stdout)["phase"] == "disputed"


def test_a_payout_that_is_asked_for(node: Harness) -> None:
    """While the channel runs it is refused."""
    channel = "0x" + node.channel().hex()
    assert run(node, "channel", "withdraw", channel).exit_code == 1
    node.client.close_channel(channel)
    done = run(node, "channel", "withdraw", channel)
    assert done.exit_code == 0, done.output
    assert "settled" in done.stdout


@pytest.mark.parametrize(("phase", "says"), [("running", "2"), ("settled", "2, too late: the channel has ended")])
def test_messages_that_came_too_late_are_said_to_be(node: Harness, phase: str, says: str) -> None:
    """A channel that has ended decides nothing any more."""
    channel = node.channel()
    changed = msgspec.structs.replace(node.service.infos[channel], phase=phase, pending=2)
    node.run(lambda: node.service.infos.update({channel: changed}))
    lines = run(node, "channel", "show", "0x" + channel.hex()).stdout.splitlines()
    assert [line.split(None, 1)[1] for line in lines if line.startswith("undecided")] == [says]


def test_money_on_chain_is_shown(node: Harness) -> None:
    """What is held, what is needed, and until when a challenge runs."""
    channel = node.channel()
    node.run(
        lambda: node.service.infos.update(
            {channel: msgspec.structs.replace(node.service.infos[channel], chain=ON_CHAIN)}
        )
    )
    shown = run(node, "channel", "show", "0x" + channel.hex()).stdout
    assert "1 eth (confirmed: 0 wei); first deposits 1 eth, this node's 0.5 eth" in shown
    assert f"7 of {TOKEN}; first deposits 14 of {TOKEN}" in shown
    assert "challenge until 20" in shown
    found = node.client.channel("0x" + channel.hex()).chain
    assert found is not None
    assert (found.mode, found.turn_record, found.assets[0].held) == ("challenge", 4, str(10**18))


def test_a_node_without_a_chain_says_so(node: Harness) -> None:
    """Instead of figures that mean nothing."""
    assert node.client.chain().connected is False


def test_room_for_top_ups_is_asked_for_with_the_stakes(node: Harness) -> None:
    """Per asset: what all bring, a reserve slot for each, and the headroom last."""
    done = run(
        node, "channel", "open", "bob", "--app", "duel", "--fund", "direct", "--stake", "5", "--stake", f"7:{TOKEN}",
        "--headroom", "1gwei",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    (request,) = node.service.requests
    coin, token, to = bytes(20), bytes.fromhex(TOKEN[2:]), (destination(ALICE), destination(BOB))
    stakes = tuple((coin, each, 5) for each in to)
    reserves = tuple((coin, each, 0) for each in to)
    assert request.slots == (*stakes, *reserves, (coin, to[0], 10**9), *((token, each, 7) for each in to))


def test_headroom_without_a_stake_is_refused(node: Harness) -> None:
    done = run(
        node, "channel", "open", "bob", "--app", "duel", "--fund", "direct", "--stake", "5", "--headroom", f"1:{TOKEN}"
    )
    assert done.exit_code == 2
    assert "asset that --stake names" in done.output


def test_a_top_up_is_approved_and_the_app_is_asked(node: Harness) -> None:
    channel = node.client.open_channel(["bob"], "duel", fund="direct", stakes={COIN: 5}).channel_id
    done = run(node, "channel", "top-up", channel, "3gwei", "--message", '{"more": 3}')
    assert done.exit_code == 0, done.output
    assert [(asset, amount) for _, asset, amount in node.service.topped_up] == [(bytes(20), 3 * 10**9)]
    assert node.client.channel(channel).sequence == 2, "the message follows"
    node.service.set_phase(node.service.topped_up[0][0], "closed")
    done = run(node, "channel", "top-up", channel, "3gwei")
    assert done.exit_code != 0
    assert "only a running one can be topped up" in done.output


def test_a_token_that_answers_channels_spends_nothing(node: Harness) -> None:
    """A page may open and accept channels without money; what costs money needs `funds`."""
    store = TokenStore(node.home)
    plain = node.with_token(store.add("page", ("read", "send", "channels")))
    paying = node.with_token(store.add("shop", ("read", "channels", "funds")))
    assert plain.open_channel(["bob"], "duel").phase == "running"
    with pytest.raises(NotAllowed, match="a channel with deposits needs funds"):
        plain.open_channel(["bob"], "duel", fund="direct", stakes={COIN: 5})
    assert [request.fund for request in node.service.requests] == ["none"]
    channel = paying.open_channel(["bob"], "duel", fund="direct", stakes={COIN: 5}).channel_id
    with pytest.raises(NotAllowed, match="needs funds"):
        plain.top_up(channel, COIN, 5)
    known = node.service.infos[ChannelId(bytes.fromhex(channel[2:]))]
    proposed = msgspec.structs.replace(known, phase="proposed", chain=ON_CHAIN)
    node.run(lambda: node.service.infos.update({known.channel_id: proposed}))
    with pytest.raises(NotAllowed, match="a channel with deposits needs funds"):
        plain.accept(channel)
    assert paying.accept(channel).phase == "running"


def test_the_status_shows_the_chain(node: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoint, head and what is behind it, balance, what is under way, what is wrong, and the money in channels."""
    found = ChainStatusView(
        connected=True, chain_id=5, account=ACCOUNT, balance=str(2 * 10**18), head=70, lag_blocks=3,
        endpoint="https://rpc.example", pending=2, fault="it does not answer",
    )  # fmt: skip
    monkeypatch.setattr(Client, "chain", lambda _: found)
    for _ in range(2):
        opened = node.client.open_channel(["bob"], "duel").channel_id
        known = node.service.infos[ChannelId(bytes.fromhex(opened[2:]))]
        changed = msgspec.structs.replace(known, chain=msgspec.structs.replace(ON_CHAIN, confirmed=(10**18, 7)))
        node.run(lambda changed=changed: node.service.infos.update({changed.channel_id: changed}))  # type: ignore[misc]
    shown = run(node, "status").stdout
    assert "5 at https://rpc.example" in shown
    assert "it does not answer" in shown
    assert "70, 3 not processed" in shown
    assert f"{ACCOUNT} with 2 eth; 2 transactions under way" in shown
    assert f"2 eth, 14 of {TOKEN}, confirmed" in shown
    assert json.loads(run(node, "--json", "status").stdout)["chain"]["lag_blocks"] == 3


def test_the_status_shows_the_ledgers_unless_they_are_corrupt(node: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """In text and JSON; any other failure is told."""
    monkeypatch.setattr(Client, "chain", lambda _: ChainStatusView(connected=True, chain_id=5, account=ACCOUNT))
    ledger = node.books.put_ledger(8, BOB)
    assert "1 running" in run(node, "status").stdout
    (shown,) = json.loads(run(node, "--json", "status").stdout)["ledgers"]
    assert (shown["channel_id"], shown["phase"]) == ("0x" + ledger.hex(), "running")
    for error, exit_code in ((CorruptionError("the books are corrupt"), 0), (LocalError("not now"), 1)):

        def fails(error: Exception = error) -> NoReturn:
            raise error

        monkeypatch.setattr(node.books, "ledgers", fails)
        result = run(node, "--json", "status")
        assert result.exit_code == exit_code, result.output
        assert "ledgers" not in json.loads(result.stdout or "{}")


def test_a_status_without_a_chain_shows_none(node: Harness) -> None:
    assert "transactions under way" not in run(node, "status").stdout
    assert "chain" not in json.loads(run(node, "--json", "status").stdout)


@pytest.mark.parametrize("args", [("accounts",), ("send", ACCOUNT, "all"), ("send", ACCOUNT, "1eth")])
def test_money_of_the_keys_needs_a_chain(node: Harness, args: tuple[str, ...]) -> None:
    """A directory that names none says where to name one."""
    new_key(node.home)
    done = run(node, "chain", *args)
    assert done.exit_code == 1
    assert "no chain is configured" in done.stderr


@pytest.mark.parametrize("amount", ["1eth:" + TOKEN, "everything", "all:0xTOKEN"])
def test_amounts_that_cannot_be_sent(node: Harness, amount: str) -> None:
    done = run(node, "chain", "send", ACCOUNT, amount)
    assert done.exit_code == 2
    assert "AMOUNT" in done.stderr


def test_a_top_up_is_used_once_it_is_confirmed(node: Harness) -> None:
    """The second message waits for the chain; after the wait the first one stands, and that is said."""
    channel = node.client.open_channel(["bob"], "duel", fund="direct", stakes={COIN: 5}).channel_id
    known = ChannelId(bytes.fromhex(channel[2:]))
    args = ("channel", "top-up", channel, "3", "--message", "1", "--then", "2", "--wait")
    late = run(node, *args, "0.1")
    assert late.exit_code == 4
    assert "not confirmed after 0.1 s" in late.stderr
    assert node.client.channel(channel).sequence == 2
    there = msgspec.structs.replace(
        node.service.infos[known], chain=msgspec.structs.replace(ON_CHAIN, confirmed=ON_CHAIN.needed)
    )
    node.run(lambda: node.service.infos.update({known: there}))
    assert run(node, *args, "5").exit_code == 0
    assert node.client.channel(channel).sequence == 4, "both messages"


def test_a_refused_announcement_says_that_the_permission_stands(node: Harness) -> None:
    channel = node.client.open_channel(["bob"], "duel", fund="direct", stakes={COIN: 5}).channel_id
    node.service.refused[msgspec.msgpack.encode(7)] = "not now"
    done = run(node, "channel", "top-up", channel, "3", "--message", "7")
    assert done.exit_code == 1
    assert "the permission stands" in done.stderr


def test_money_is_taken_out_of_a_channel_that_goes_on(node: Harness) -> None:
    """The first participant's node answers with the successor; any other one says whom it asks."""
    channel = node.client.open_channel(["bob"], "duel", fund="direct", stakes={COIN: 5}).channel_id
    args = ("channel", "resize", channel, "--withdraw", "3gwei", "--withdraw", f"2:{TOKEN}")
    done = run(node, *args, "--params", '{"pot": 1}')
    assert done.exit_code == 0, done.output
    ((known, amounts, params),) = node.service.resized
    assert amounts == {bytes(20): 3 * 10**9, bytes.fromhex(TOKEN[2:]): 2}
    assert params == {"pot": 1}
    successor = node.client.channel(channel).successor
    assert f"takes over from  {channel}" in done.output
    assert f"successor      {successor}" in run(node, "channel", "show", channel).output
    node.run(lambda: node.service.infos.update({known: msgspec.structs.replace(node.service.infos[known], my_index=1)}))
    asked = run(node, *args)
    assert asked.exit_code == 0
    assert "the first participant is asked" in asked.stderr


def test_a_resize_that_cannot_be_is_refused(node: Harness) -> None:
    """By the node with its reason, and an asset that is named twice before it is asked."""
    channel = node.client.open_channel(["bob"], "duel", fund="direct", stakes={COIN: 5}).channel_id
    assert run(node, "channel", "resize", channel, "--withdraw", "1", "--withdraw", "2").exit_code == 2
    with pytest.raises(NotAllowed, match="needs funds"):
        node.with_token(TokenStore(node.home).add("page", ("read", "channels"))).resize(channel, {COIN: 1})
    node.service.set_phase(ChannelId(bytes.fromhex(channel[2:])), "closed")
    done = run(node, "channel", "resize", channel, "--withdraw", "1")
    assert done.exit_code != 0
    assert "only a directly funded one that runs" in done.output
