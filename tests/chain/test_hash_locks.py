"""Payments with locked parts on chain: what a preimage opens, until when, and that two hops stand or fall together."""

from __future__ import annotations

import hashlib

import eth_abi
import pytest

from scapp.channels.chain import calls, contracts
from scapp.channels.chain.judging import state_hash_of
from scapp.channels.chain.port import REVEAL_GAS
from scapp.channels.chain.support import Unsupported, is_supported, require_supported, signed
from scapp.channels.crypto import keccak256
from scapp.channels.payments.locks import Lock, locked_voucher_hash, redemption_of_locks, sign_locked
from scapp.channels.signing import Verifier
from tests.chain import cast
from tests.chain.cast import World
from tests.chain.evm import START
from tests.chain.states import (
    ADDRESSES,
    NATIVE,
    SIGNERS,
    Channel,
    allocation,
    encode_outcome,
    exits,
    guarantee,
    sign,
    voucher,
)

ALICE, IRENE, BOB, IVAN = (ADDRESSES[name] for name in ("alice", "irene", "bob", "ivan"))
PREIMAGES = [bytes([number]) * 32 for number in (1, 2, 3)]
HASHES = [hashlib.sha256(preimage).digest() for preimage in PREIMAGES]
EXPIRY = START + 600


class Scene:
    """Contracts on a chain; payments from Alice to Bob through Irene, in a channel over 100."""

    def __init__(self) -> None:
        self.world = World()
        self.app = cast.deploy(self.world.evm, contracts.load("HashLockPaymentApp"))
        self.channel = Channel((ALICE, IRENE, BOB), self.app.address)

    def supported(self, channel, new, turn, app_data, names=("bob",), old=None):
        """None when the redemption may be registered now, else the reason; nodes must judge it as the contract does."""
        postfund = channel.state(old or slots(100, 0), 1).signed()
        part = channel.state(new, turn, app_data).signed(*names)
        adjudicator = self.world.adjudicator
        call = adjudicator.interface.call("stateIsSupported", channel.fixed, [postfund], part)
        receipt = self.world.evm.view(adjudicator.address, call)
        good, reason = False, receipt.reason
        if receipt.ok:
            good, reason = adjudicator.interface.answer("stateIsSupported", receipt.output)
        reason = None if good else reason
        assert self.judged(channel, postfund, part) == reason
        return reason

    def judged(self, channel, postfund, part):
        """What a node says of it that knows what was revealed; without that it must not refuse what is supported."""
        candidate, proof = (calls.signed_state(each, channel.fixed) for each in (part, postfund))
        times = {hash_: self.app.read("revealedAt", hash_) for hash_ in HASHES}
        try:
            states = [signed(state, state_hash_of(state)) for state in (candidate, proof)]
            require_supported("hash-lock", channel.id, states[0], states[1:], times)
        except Unsupported as error:
            return str(error)
        assert is_supported({channel.app: "hash-lock"}, candidate, (proof,))
        return None

    def reveal(self, *preimages, at=None):
        if at is not None:
            self.world.evm.timestamp = at
        receipt = self.app.send(IVAN, "reveal", list(preimages))
        assert receipt.ok, receipt.reason
        return self.app.events(receipt)


@pytest.fixture
def scene():
    return Scene()


def slots(alice, bob, payer=ALICE, payee=BOB):
    return exits(NATIVE, allocation(payer, alice), allocation(payee, bob))


def locked(channel, amount, *locks, payer="alice"):
    """App data of a redemption, made by eth_abi alone; the product's must be the same."""
    kinds = ["bytes32", "uint256", "(uint256,bytes32,uint256)[]"]
    hash_ = keccak256(eth_abi.encode(kinds, [channel.id, amount, list(locks)]))
    kinds = ["uint256", "(uint256,bytes32,uint256)[]", "(uint8,bytes32,bytes32)"]
    return eth_abi.encode(kinds, [amount, list(locks), sign(SIGNERS[payer], hash_)])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_products_app_data_is_what_the_contract_reads(scene, count):
    """Hash, voucher and redemption, byte for byte; `v` is mended on the way as for other vouchers."""
    locks = [(number + 1, HASHES[number], EXPIRY + number) for number in range(count)]
    ours = sign_locked(scene.channel.id, 7, [Lock(*lock) for lock in locks], SIGNERS["alice"])
    kinds = ["bytes32", "uint256", "(uint256,bytes32,uint256)[]"]
    assert locked_voucher_hash(ours) == keccak256(eth_abi.encode(kinds, [scene.channel.id, 7, locks]))
    assert redemption_of_locks(ours, Verifier(ALICE)) == locked(scene.channel, 7, *locks)


def test_a_lock_opens_by_its_preimage_until_its_expiry(scene):
    """Revealed in the last second it pays, a second later it does not; the amount before it is paid anyhow."""
    data = locked(scene.channel, 10, (5, HASHES[0], EXPIRY))
    open_, shut = slots(85, 15), slots(90, 10)
    assert scene.supported(scene.channel, shut, 2, data) is None
    assert scene.supported(scene.channel, open_, 3, data) == "bad candidate turnNum; |proof|=1"
    assert scene.supported(scene.channel, open_, 2, data) == "Alice not adjusted correctly"
    scene.reveal(PREIMAGES[0], at=EXPIRY)
    scene.world.evm.timestamp = EXPIRY + 10_000
    assert scene.supported(scene.channel, open_, 3, data) is None
    assert scene.supported(scene.channel, shut, 2, data) == "bad candidate turnNum; |proof|=1"


def test_what_a_reveal_costs_is_what_hubs_count_with(scene):
    assert scene.app.send(IVAN, "reveal", [PREIMAGES[0]]).gas in range(REVEAL_GAS * 9 // 10, REVEAL_GAS)


def test_a_preimage_that_comes_too_late_opens_nothing(scene):
    data = locked(scene.channel, 10, (5, HASHES[0], EXPIRY))
    scene.reveal(PREIMAGES[0], at=EXPIRY + 1)
    assert scene.supported(scene.channel, slots(85, 15), 3, data) == "bad candidate turnNum; |proof|=1"
    assert scene.supported(scene.channel, slots(90, 10), 2, data) is None


def test_what_is_revealed_stays_as_it_was(scene):
    """A second time does not make it later, and says nothing; another preimage opens nothing of ours."""
    assert scene.reveal(PREIMAGES[0], b"\x99" * 32, at=EXPIRY)[0][1:] == (HASHES[0], PREIMAGES[0])
    assert scene.reveal(PREIMAGES[0], at=EXPIRY + 500) == []
    assert scene.app.read("revealedAt", HASHES[0]) == EXPIRY
    assert scene.app.read("revealedAt", HASHES[1]) == 0


def test_several_locks_open_one_by_one(scene):
    """The turn says how many, so a redemption with more of them comes after one with fewer."""
    locks = [(1, HASHES[0], EXPIRY), (2, HASHES[1], EXPIRY + 100), (4, HASHES[2], EXPIRY + 200)]
    data = locked(scene.channel, 10, *locks)
    scene.reveal(PREIMAGES[1], at=EXPIRY)
    assert scene.supported(scene.channel, slots(88, 12), 3, data) is None
    scene.reveal(PREIMAGES[0], PREIMAGES[2], at=EXPIRY + 150)  # the first has expired by now
    assert scene.supported(scene.channel, slots(84, 16), 4, data) is None


def test_one_hash_opens_every_lock_on_it(scene):
    """Whoever locks two payments on one hash pays both: the contract does not guess."""
    data = locked(scene.channel, 0, (1, HASHES[0], EXPIRY), (2, HASHES[0], EXPIRY - 1))
    scene.reveal(PREIMAGES[0], at=EXPIRY)
    assert scene.supported(scene.channel, slots(99, 1), 3, data) is None


def test_vouchers_without_locks_are_redeemed_as_ever(scene):
    """In the short form of VirtualPaymentApp, and with an empty list of locks."""
    assert scene.supported(scene.channel, slots(90, 10), 2, voucher(scene.channel, 10)) is None
    assert scene.supported(scene.channel, slots(90, 10), 2, locked(scene.channel, 10)) is None
    assert scene.supported(scene.channel, slots(90, 10), 3, voucher(scene.channel, 10)) == (
        "bad candidate turnNum; |proof|=1"
    )


def test_a_voucher_of_one_form_is_none_of_the_other(scene):
    """Signed with an empty list of locks, and shown without, it is another hash, and the other way round."""
    plain, empty = voucher(scene.channel, 10), locked(scene.channel, 10)
    as_plain = eth_abi.encode(["uint256"], [10]) + empty[64:160]
    signature = (plain[63], plain[64:96], plain[96:128])
    as_locked = eth_abi.encode(
        ["uint256", "(uint256,bytes32,uint256)[]", "(uint8,bytes32,bytes32)"], [10, [], signature]
    )
    for data in (as_plain, as_locked):
        assert scene.supported(scene.channel, slots(90, 10), 2, data) == "invalid signature for voucher"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"payer": "irene"}, "invalid signature for voucher"),
        ({"names": ("alice", "irene")}, "redemption not signed by Bob"),
        ({"new": slots(86, 15)}, "Alice not adjusted correctly"),
        ({"new": slots(85, 15, payee=IRENE)}, "destination changed"),
        ({"locks": ((91, HASHES[0], EXPIRY),), "new": slots(0, 101)}, "panic 0x11"),
        ({"locks": ((2**256 - 1, HASHES[0], EXPIRY),)}, "panic 0x11"),
    ],
)
def test_what_is_no_redemption(scene, change, reason):
    """Not the payer's, not the payee's, another sum, other slots, more than there is, more than there can be."""
    scene.reveal(PREIMAGES[0])
    data = locked(
        scene.channel, 10, *change.get("locks", ((5, HASHES[0], EXPIRY),)), payer=change.get("payer", "alice")
    )
    names = change.get("names", ("bob",))
    assert scene.supported(scene.channel, change.get("new", slots(85, 15)), 3, data, names) == reason


def test_changed_locks_are_not_what_was_signed(scene):
    """Neither a longer time, nor more money, nor another hash, nor one lock less."""
    scene.reveal(PREIMAGES[0], PREIMAGES[1])
    good = locked(scene.channel, 10, (5, HASHES[0], EXPIRY), (1, HASHES[2], EXPIRY))
    amount, locks, signature = eth_abi.decode(
        ["uint256", "(uint256,bytes32,uint256)[]", "(uint8,bytes32,bytes32)"], good
    )
    for forged in (
        [(5, HASHES[0], EXPIRY + 1), locks[1]],
        [(6, HASHES[0], EXPIRY), locks[1]],
        [(5, HASHES[1], EXPIRY), locks[1]],
        [locks[0]],
    ):
        data = eth_abi.encode(
            ["uint256", "(uint256,bytes32,uint256)[]", "(uint8,bytes32,bytes32)"], [amount, forged, signature]
        )
        assert scene.supported(scene.channel, slots(85, 15), 3, data) == "invalid signature for voucher"


@pytest.mark.parametrize("turn", [0, 1])
def test_prefund_and_postfund_need_everybody(scene, turn):
    adjudicator = scene.world.adjudicator
    state = scene.channel.state(slots(100, 0), turn)
    for part, fine in ((state.signed(), True), (state.signed("alice", "bob"), False)):
        receipt = scene.world.evm.view(
            adjudicator.address, adjudicator.interface.call("stateIsSupported", scene.channel.fixed, [], part)
        )
        assert receipt.ok is fine


def test_a_hub_takes_upstream_what_was_taken_from_it_downstream():
    """Two channels, each guaranteed by a ledger, one hash, no help from the others: Bob reveals in the last moment of
    the shorter lock; what he revealed opens the hub's lock as well. The hub ends as it began."""
    scene = Scene()
    hops = [
        Hop(scene, "alice", "irene", EXPIRY + 300),
        Hop(scene, "irene", "bob", EXPIRY),
    ]
    balances = {name: scene.world.evm.balance(ADDRESSES[name]) for name in ("alice", "irene", "bob")}
    (revealed,) = scene.reveal(PREIMAGES[0], at=EXPIRY)
    assert hashlib.sha256(revealed[2]).digest() == HASHES[0]
    scene.world.evm.timestamp = EXPIRY + 200
    for hop in hops:
        hop.challenge()
    scene.world.evm.timestamp += 61
    for hop in hops:
        hop.reclaim_and_pay()
    gained = {name: scene.world.evm.balance(ADDRESSES[name]) - before for name, before in balances.items()}
    assert gained == {"alice": 60, "irene": 100, "bob": 40}


class Hop:
    """A ledger with 100 of the payer, all of it guaranteeing a payment channel to the payee with one lock over 40."""

    def __init__(self, scene, payer, payee, expiry):
        self.scene, self.payee = scene, payee
        self.ends = (ADDRESSES[payer], ADDRESSES[payee])
        self.ledger = Channel(self.ends, scene.world.consensus.address)
        self.channel = Channel(self.ends, scene.app.address)
        self.redemption = locked(self.channel, 0, (40, HASHES[0], expiry), payer=payer)
        for address in self.ends:
            scene.world.give(address)
        deposit = scene.world.adjudicator.send(self.ends[0], "deposit", NATIVE, self.ledger.id, 0, 100, value=100)
        assert deposit.ok, deposit.reason
        promised = exits(
            NATIVE,
            allocation(self.ends[0], 0),
            allocation(self.ends[1], 0),
            guarantee(self.channel.id, 100, *self.ends),
        )
        self.promise = self.ledger.state(promised, 2)
        self.redeemed = self.channel.state(slots(60, 40, *self.ends), 3, self.redemption)

    def challenge(self):
        adjudicator = self.scene.world.adjudicator
        postfund = self.channel.state(slots(100, 0, *self.ends), 1).signed()
        for fixed, proof, state, names in (
            (self.ledger.fixed, [], self.promise, ()),
            (self.channel.fixed, [postfund], self.redeemed, (self.payee,)),
        ):
            done = adjudicator.send(
                self.ends[1], "challenge", fixed, proof, state.signed(*names), state.challenger(self.payee)
            )
            assert done.ok, done.reason

    def reclaim_and_pay(self):
        adjudicator = self.scene.world.adjudicator
        owed, redeemed = encode_outcome(self.promise.outcome), encode_outcome(self.redeemed.outcome)
        arguments = (self.ledger.id, self.promise.hash, owed, 0, 2, self.redeemed.hash, redeemed, 0)
        done = adjudicator.send(IVAN, "reclaim", arguments)
        assert done.ok, done.reason
        left = slots(60, 40, *self.ends)
        done = adjudicator.send(IVAN, "transferAllAssets", self.ledger.id, left, self.promise.hash)
        assert done.ok, done.reason


def test_a_redemption_with_more_locks_takes_the_place_of_one_with_fewer():
    """The payee need not choose between a lock that expires and one that is not opened yet."""
    scene = Scene()
    channel = Channel((ALICE, BOB), scene.app.address)
    data = locked(channel, 10, (1, HASHES[0], EXPIRY), (2, HASHES[1], EXPIRY + 100))
    scene.reveal(PREIMAGES[0])
    _challenge(scene, channel, slots(89, 11), 3, data, "bob", slots(100, 0))
    scene.reveal(PREIMAGES[1], at=START + 30)
    _challenge(scene, channel, slots(87, 13), 4, data, "bob", slots(100, 0))
    scene.world.evm.timestamp += 59
    state = channel.state(slots(87, 13), 4, data)
    early = scene.world.adjudicator.send(IVAN, "transferAllAssets", channel.id, state.outcome, state.hash)
    assert early.reason == "Channel not finalized."
    scene.world.evm.timestamp += 2
    over = scene.world.adjudicator.send(IVAN, "transferAllAssets", channel.id, state.outcome, state.hash)
    assert over.reason == "Channel is virtual."  # its money lies in ledgers, which reclaim it


def _challenge(scene, channel, new, turn, data, by, old):
    state = channel.state(new, turn, data)
    proof = [channel.state(old, 1).signed()]
    receipt = scene.world.adjudicator.send(
        ADDRESSES[by], "challenge", channel.fixed, proof, state.signed(by), state.challenger(by)
    )
    assert receipt.ok, receipt.reason
