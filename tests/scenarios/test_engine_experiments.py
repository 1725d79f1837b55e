"""What took money from go-nitro's engine, or crashed it (`goEngineExperiments` of `tests/golden/nitro-vectors.json`),
tried on whole nodes: refused, nobody loses, the node is alive. Each test ends with a payment that works."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from scapp.channels.books.info import PaymentChannelRequest
from scapp.channels.books.messages import encode_message
from scapp.channels.chain import calls
from scapp.channels.errors import LocalError
from scapp.channels.ledger.balances import Parties, opening_balances
from scapp.channels.ledger.messages import Agree, Ask, OpenLedger, RejectLedger, SignFinal, Update, Updates
from scapp.channels.ledger.opening import open_again
from scapp.channels.ledger.proposals import Part, Remove
from scapp.channels.ledger.signed import newest_enforceable
from scapp.channels.ledger.wire import to_wire
from scapp.channels.onchain import Challenge
from scapp.channels.outcome import address_to_destination
from scapp.channels.payments.messages import Vouchers, encode_payment_message
from scapp.channels.payments.vouchers import sign_voucher
from scapp.channels.state import FixedPart, check_fixed_part
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from scapp.channels.virtual.agreement import Agreement, Asset, nonce_at, to_message
from scapp.channels.virtual.chain_view import milestone_state
from scapp.channels.virtual.messages import Final, Proposed, Refused, Said
from tests.support.hostile_scene import ALICE, BOB, IRENE, MALLORY, HostileScene
from tests.support.ledger_scene import DURATION_S, PAYMENT_APP
from tests.support.node_cast import START_MS
from tests.support.plain_chain import CONSENSUS, account_of, challenger
from tests.support.tree import ROOT

JUNK = b"\x5a" * 65
UNKNOWN = ChannelId(b"\x99" * 32)
WEI = 10**18


@pytest.fixture
async def scene() -> AsyncIterator[HostileScene]:
    made = HostileScene(3)
    await made.ready()
    try:
        yield made
    finally:
        await made.mallory.stop()
        await made.end()


def test_every_experiment_has_its_test() -> None:
    """A new one in the vectors is noticed."""
    vectors = json.loads((ROOT / "tests" / "golden" / "nitro-vectors.json").read_text())
    tried = {
        "forged-final": test_a_forged_final_state_frees_no_guarantee,
        "negative": test_a_channel_of_negative_or_foreign_money_is_not_joined,
        "auto-deposit": test_a_stranger_makes_nobody_deposit,
        "forged-close": test_a_forged_end_closes_no_ledger,
        "reject": test_nobody_cancels_what_is_not_its_own,
        "panics from one peer message": test_no_message_crashes_a_node,
        "panics from API calls": test_no_call_crashes_a_node,
    }
    assert {each["name"] for each in vectors["goEngineExperiments"]} == set(tried)


async def test_a_forged_final_state_frees_no_guarantee(scene: HostileScene) -> None:
    """Alice has paid 12 of 40. She says that all three have signed that nothing was paid, then takes the guarantee
    back with a change that she, the leader, has truly signed."""
    channel = await scene.payments((ALICE, IRENE, BOB), 40)
    await scene.books(ALICE).pay(channel, 12)
    await scene.until(lambda: scene.virtual(BOB, channel).paid == 12)
    amounts = (40).to_bytes(32, "big") + bytes(32)
    for signatures in ((JUNK, JUNK, JUNK), (JUNK, b"", b""), (b"", b"", b"")):
        forged = Said(channel, (), final=Final(2, amounts, b"", signatures))
        await scene.refuses(IRENE, encode_message(forged), ALICE)
        await scene.refuses(BOB, encode_message(forged), ALICE)
    await scene.ignores(IRENE, encode_message(scene.removal(channel, 40)), ALICE)
    assert scene.money(IRENE, scene.left) == (1_000, 960, 40)
    assert scene.virtual_phase(channel, "running", (IRENE, BOB))
    await scene.restart(IRENE)  # what a leader has proposed is no part of its follower's record
    await scene.books(BOB).close_virtual(channel)
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, IRENE, BOB)))
    assert scene.money(IRENE, scene.left) == (1_012, 988, 0)
    assert scene.money(BOB, scene.right) == (1_012, 988, 0)
    await scene.works()


def proposed(
    scene: HostileScene, first: int, last: int, app: Address = PAYMENT_APP, path: tuple[int, ...] = (0, 1, 2)
) -> bytes:
    """Alice proposes a channel with amounts modulo 2^256, rightly signed as far as they can be."""
    people = tuple(scene.address(index) for index in path)
    fixed = FixedPart(people, nonce_at(START_MS + 50, len(path) + first + last), app, DURATION_S)
    ends = address_to_destination(people[0]), address_to_destination(people[-1])
    asset = Asset(ZERO_ADDRESS, first % 2**256, last % 2**256)
    agreement = Agreement("payment", fixed, ends, (asset,), b"", (0,) * (len(path) - 2))
    try:
        channel = check_fixed_part(fixed)
    except ValueError:
        channel = UNKNOWN
    return encode_message(to_message(channel, agreement, (JUNK, *(b"" for _ in people[1:]))))


@pytest.mark.parametrize(
    "make",
    [
        lambda scene: proposed(scene, -50, 50),
        lambda scene: proposed(scene, 50, -50),
        lambda scene: proposed(scene, 0, 0),
        lambda scene: proposed(scene, 20, 20),
        lambda scene: proposed(scene, 2**256 - 1, 1),
        lambda scene: proposed(scene, 40, 0, app=ZERO_ADDRESS),
        lambda scene: proposed(scene, 40, 0, app=CONSENSUS),
        lambda scene: proposed(scene, 40, 0, path=(ALICE, IRENE, ALICE)),
        lambda scene: proposed(scene, 40, 0, path=(ALICE, IRENE, IRENE)),
        lambda scene: proposed(scene, 40, 0, path=(ALICE, IRENE)),
    ],
    ids=[
        "-50 and 50", "50 and -50", "nothing", "the payee begins with some", "more than there can be", "no app",
        "another app", "back to the payer", "twice the hub", "forged",
    ],
)  # fmt: skip
async def test_a_channel_of_negative_or_foreign_money_is_not_joined(
    scene: HostileScene, make: Callable[[HostileScene], bytes]
) -> None:
    await scene.refuses(IRENE, make(scene), ALICE)
    assert scene.books(IRENE).virtuals() == []
    assert scene.worth() == [1_000, 2_000, 1_000]
    await scene.works()


async def test_a_stranger_makes_nobody_deposit(scene: HostileScene) -> None:
    """A ledger with 10^18 of Bob's: without time for a dispute it is refused, else it is his operator's to decide."""
    scene.policies[BOB].answers["ledger"] = ("ask", "by hand")
    for duration_s in (0, 1, DURATION_S):
        fixed = FixedPart((MALLORY.address, scene.address(BOB)), 5 + duration_s, CONSENSUS, duration_s)
        channel = check_fixed_part(fixed)
        funds = ((bytes(20), bytes(32), WEI.to_bytes(32, "big")),)
        ends = address_to_destination(MALLORY.address), address_to_destination(scene.address(BOB))
        digest = opening_balances(Parties(*ends), [(ZERO_ADDRESS, 0, WEI)], turn=0).state_hash(channel)
        message = OpenLedger(
            channel,
            (fixed.participants[0], fixed.participants[1]),
            fixed.nonce,
            CONSENSUS,
            duration_s,
            ends,
            funds,
            MALLORY.sign(digest),
        )
        if duration_s < 600:
            await scene.refuses(BOB, encode_message(message))
            continue
        scene.say(BOB, encode_message(message), None)
        await scene.until(lambda: scene.has_phase(channel, "proposed", (BOB,)))  # noqa: B023 - asked at once
    for _ in range(5):
        await scene.block()
    assert scene.chain.held(channel) == 0
    scene.policies[BOB].answers.clear()
    await scene.works()


async def test_a_forged_end_closes_no_ledger(scene: HostileScene) -> None:
    """From a stranger, and from the other party with signatures that nobody made."""
    final = encode_message(SignFinal(scene.left, 9, JUNK, answer=True))
    await scene.refuses(IRENE, final)
    for index, sender in ((IRENE, ALICE), (ALICE, IRENE)):
        await scene.refuses(index, final, sender)
    assert scene.has_phase(scene.left, "running", (ALICE, IRENE))
    sent = len(scene.chain.sent)
    await scene.block()
    assert len(scene.chain.sent) == sent
    await scene.works()


async def test_nobody_cancels_what_is_not_its_own(scene: HostileScene) -> None:
    """A stranger rejects a ledger and a channel; a party those that run. A refusal is in nobody else's name."""
    channel = await scene.payments((ALICE, IRENE, BOB), 40)
    reject = encode_message(RejectLedger(scene.left, "no"))
    await scene.refuses(IRENE, reject)
    await scene.refuses(IRENE, reject, ALICE)
    await scene.refuses(IRENE, encode_message(Refused(channel, 0, "no")))
    await scene.refuses(IRENE, encode_message(Refused(channel, 1, "no")), ALICE)
    await scene.ignores(IRENE, encode_message(Refused(channel, 0, "no")), ALICE)
    assert scene.virtual_phase(channel, "running", (ALICE, IRENE, BOB))
    assert scene.has_phase(scene.left, "running", (ALICE, IRENE))
    await scene.works()


async def test_no_message_crashes_a_node(scene: HostileScene) -> None:
    """Unknown ids, unknown kinds, a voucher above the balance, bytes that are no message, lists that are empty."""
    channel = await scene.payments((ALICE, IRENE, BOB), 40)
    too_much = sign_voucher(channel, 41, scene.signers[ALICE])
    item = (channel, (41).to_bytes(32, "big"), too_much.signature)
    vouchers = encode_payment_message(Vouchers((item,)))
    remove = Remove(UNKNOWN, (Part(ZERO_ADDRESS, 40, 40),))
    ledger = scene.ledger_record(IRENE, scene.left).ledger
    assert ledger is not None
    update = Update(ledger.current.turn + 1, to_wire(remove), JUNK)
    empty = msgspec.structs.replace(_open_of(scene, channel), assets=())
    refused = [
        b"", b"{", b"\xff" * 64, b"\x93\xa6l:what", b"\x92\xa6v:what\xc4\x20" + UNKNOWN,
        encode_message(Updates(UNKNOWN, (update,))),
        encode_message(Updates(scene.left, (update,))),
        encode_message(Agree(scene.left, 2, JUNK)),
        encode_message(Ask(scene.left, ((1, to_wire(remove)),))),
        encode_message(Said(channel, (JUNK,) * 9)),
        encode_message(Said(channel, (), final=Final(2, b"", b"", ()))),
        encode_message(Said(channel, (), final=Final(2, bytes(63), b"", (JUNK,) * 3))),
        encode_message(empty),
    ]  # fmt: skip
    for data in refused:
        await scene.refuses(IRENE, data, ALICE)
    await scene.ignores(IRENE, encode_message(Refused(UNKNOWN, 0, "no")), ALICE)
    await scene.ignores(BOB, vouchers, ALICE)
    await scene.until(lambda: scene.nodes[BOB].counters().get("vouchers_refused") == 1)
    assert scene.virtual(BOB, channel).paid == 0
    await scene.works()


def _open_of(scene: HostileScene, channel: ChannelId) -> Proposed:
    record = scene.virtual_record(ALICE, channel)
    return to_message(channel, record.agreement, record.prefund.signatures)


async def test_no_call_crashes_a_node(scene: HostileScene) -> None:
    """To pay more than there is, to close twice, to open a channel where there is no ledger."""
    alice = scene.books(ALICE)
    channel = await scene.payments((ALICE, IRENE), 40, fees=())
    with pytest.raises(LocalError, match="insufficient funds"):
        await alice.pay(channel, 41)
    request = PaymentChannelRequest(payee=scene.address(BOB), amount=5, challenge_duration_s=DURATION_S)
    with pytest.raises(LocalError, match="no running ledger"):
        await alice.open_payments(request)
    await alice.close_virtual(channel)
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, IRENE)))
    with pytest.raises(LocalError, match="has ended"):
        await alice.close_virtual(channel)
    await scene.works()
    for _ in range(2):
        await alice.close_ledger(scene.left)
    await scene.until(lambda: scene.has_phase(scene.left, "settled", (ALICE, IRENE)), blocks=True)
    await alice.close_ledger(scene.left)
    assert scene.gain(ALICE) == 1_000 - 7


async def test_a_deposit_by_a_stranger_holds_up_no_ledger(scene: HostileScene) -> None:
    """One wei just before the leader's deposit: it deposits what is missing."""
    await scene.books(ALICE).close_ledger(scene.left)
    await scene.until(lambda: scene.has_phase(scene.left, "settled", (ALICE, IRENE)), blocks=True)
    channel = await scene.propose_ledger(ALICE, IRENE)
    stranger = account_of(scene.address(BOB))
    scene.chain.raw(stranger, calls.Deposit(ZERO_ADDRESS, channel, 0, 1), 1)
    scene.chain.chain.mine(scene.chain.chain.head.time_s + 12)
    await scene.until(lambda: scene.has_phase(channel, "running", (ALICE, IRENE)), blocks=True)
    assert scene.chain.held(channel) == 2_000
    await scene.works()


async def test_a_challenge_with_foreign_signatures_and_doubled_ones_is_read(scene: HostileScene) -> None:
    """The contract takes them in any order, with others among them: the hub and the payee still answer."""
    channel = await scene.payments((ALICE, IRENE, BOB), 40)
    await scene.books(ALICE).pay(channel, 12)
    await scene.until(lambda: scene.virtual(BOB, channel).paid == 12)
    postfund = milestone_state(scene.virtual_record(ALICE, channel), "postfund")
    assert postfund is not None
    foreign = MALLORY.sign(scene.virtual_record(ALICE, channel).hash_of("postfund", 1, ((40, 0),), b""))
    many = (foreign, *postfund.signatures[::-1], *postfund.signatures, foreign)
    scene.chain.carry_out(scene.signers[ALICE], channel, Challenge(msgspec.structs.replace(postfund, signatures=many)))
    done = lambda: scene.virtual_phase(channel, "released", (ALICE, IRENE, BOB))  # noqa: E731
    await scene.until(done, blocks=True, seconds=600)
    assert scene.worth() == [988, 2_000, 1_012]
    await scene.works()


async def test_a_ledger_that_was_paid_out_has_no_second_life(scene: HostileScene) -> None:
    """The contract forgets a ledger with its last payout: strangers pay in, show an older state and the final one,
    and Alice proposes it once more. Nobody deposits or signs, and what came late goes where the end says."""
    record = scene.ledger_record(ALICE, scene.left)
    older, again = newest_enforceable(record), encode_message(open_again(record))
    assert older is not None
    await scene.books(ALICE).transfer(scene.left, ZERO_ADDRESS, 100)
    await scene.until(lambda: scene.money(IRENE, scene.left) == (1_100, 900, 0))
    await scene.books(ALICE).close_ledger(scene.left)
    await scene.until(lambda: scene.has_phase(scene.left, "settled", (ALICE, IRENE)), blocks=True)
    chain, stranger = scene.chain, account_of(scene.address(BOB))
    concluded = next(
        each.call for block in chain.chain.blocks for each in block.transactions
        if isinstance(each.call, calls.ConcludeAndTransfer)
    )  # fmt: skip
    sent, paid_in = len(chain.sent), 500
    chain.raw(stranger, calls.Deposit(ZERO_ADDRESS, scene.left, 0, paid_in), paid_in)
    chain.raw(stranger, calls.Challenge((), older, challenger(scene.signers[ALICE], scene.left, older)))
    for _ in range(5):
        await scene.block()
    await scene.ignores(IRENE, again, ALICE)
    assert (chain.held(scene.left), len(chain.sent)) == (paid_in, sent)
    chain.raw(stranger, concluded)
    for _ in range(5):
        await scene.block()
    assert [scene.gain(index) for index in (ALICE, IRENE)] == [900 + paid_in, 1_100]
    assert len(chain.sent) == sent
    assert scene.has_phase(scene.left, "settled", (ALICE, IRENE))
    scene.left = await scene.ledger(ALICE, IRENE)
    await scene.works()
