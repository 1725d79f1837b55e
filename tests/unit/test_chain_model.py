"""The modelled chain behaves like a chain: nonces, fees, replacement, reorganisation, states of the past."""

from __future__ import annotations

import pytest

from scapp.channels.abi import InvalidValue
from scapp.channels.chain.calls import Allowance, BalanceOf, StatusOf, TransferTokens, decode_call
from scapp.channels.chain.model import execute, view
from scapp.channels.chain.model_chain import GAS_USED, ModelTransaction, Rejected
from scapp.channels.chain.model_world import Revert
from scapp.channels.types import ZERO_ADDRESS, Address, Hash
from tests.support import chain_stories as story

SENDER = story.OTHER
NOBODY = Address(b"\x77" * 20)


def payment(nonce, value=1, *, fee=2 * 10**9, tip=0):
    content = nonce.to_bytes(16, "big") + fee.to_bytes(16, "big")
    return ModelTransaction(Hash(content.ljust(32, b"\0")), SENDER, nonce, NOBODY, None, value, fee, tip)


def test_transactions_go_in_by_nonce_and_pay_for_their_gas():
    """One with a later nonce waits; fees are the base fee and the tip, not the maximum."""
    chain = story.new_chain()
    chain.send(payment(1))
    chain.mine()
    assert chain.head.transactions == ()
    chain.send(payment(0, tip=10**8))
    chain.mine()
    assert [item.nonce for item in chain.head.transactions] == [0, 1]
    spent = story.RICH - chain.world.balances[SENDER]
    assert spent == 2 + GAS_USED * (2 * 10**9 + 10**8)
    assert chain.world.nonces[SENDER] == 2


def test_the_mempool_refuses_what_nodes_refuse():
    """The same again, a nonce that is used, a replacement that pays too little more, an empty account."""
    chain = story.new_chain()
    first = payment(0)
    chain.send(first)
    for wrong, text in (
        (first, "already known"),
        (payment(0, fee=21 * 10**8), "replacement transaction underpriced"),
        (payment(1, 2 * story.RICH), "insufficient funds"),
    ):
        with pytest.raises(Rejected, match=text):
            chain.send(wrong)
    chain.send(payment(0, fee=3 * 10**9))
    chain.mine()
    assert [item.max_fee for item in chain.head.transactions] == [3 * 10**9]
    with pytest.raises(Rejected, match="nonce too low"):
        chain.send(payment(0, fee=9 * 10**9))


def test_what_pays_less_than_the_base_fee_waits():
    """Until the base fee falls."""
    chain = story.new_chain()
    chain.send(payment(0))
    chain.base_fee = 3 * 10**9
    assert chain.mine().transactions == ()
    chain.base_fee = 10**9
    assert len(chain.mine().transactions) == 1


def test_a_reverted_transaction_uses_nonce_and_gas_alone():
    """Its reason is in the receipt; nothing else has changed."""
    chain = story.new_chain()
    hash_ = story.do(chain, TransferTokens(story.BOB.address, 1))
    block = chain.mine()
    assert chain.found(hash_) == (block, block.receipts[0])
    assert block.receipts[0].reason == "revert"
    assert chain.world.nonces[SENDER] == 1
    assert chain.world.balances[SENDER] == story.RICH - GAS_USED * 10**9


@pytest.mark.parametrize("depth", range(1, 6))
def test_a_reorganisation_replaces_blocks_and_includes_again(depth):
    """Other hashes above the fork; what was in the blocks is in the new ones, or lost."""
    chain = story.new_chain(blocks=6)
    story.deposit(chain, 5)
    chain.mine()
    for _ in range(depth - 1):
        chain.mine()
    before = [block.hash for block in chain.blocks]
    chain.reorganise(depth)
    after = [block.hash for block in chain.blocks]
    fork = len(before) - depth
    assert after[:fork] == before[:fork]
    assert not set(after[fork:]) & set(before)
    assert len(after) == len(before) + 1
    assert chain.world.held(ZERO_ADDRESS, story.channel()) == 5
    assert set(chain.forgotten) == set(before[fork:])
    assert all(chain.block(hash_) is None for hash_ in before[fork:])
    chain.reorganise(depth + 1, drop=True)
    assert chain.world.held(ZERO_ADDRESS, story.channel()) == 0
    assert all(child.parent == parent.hash for parent, child in zip(chain.blocks, chain.blocks[1:], strict=False))


def test_each_block_keeps_its_state():
    """What is read at a block does not change with later ones."""
    chain = story.new_chain()
    story.deposit(chain, 5)
    chain.mine()
    first = chain.head
    story.deposit(chain, 2)
    chain.mine()
    assert first.world.held(ZERO_ADDRESS, story.channel()) == 5
    assert chain.world.held(ZERO_ADDRESS, story.channel()) == 7
    assert chain.block(first.number) is first
    assert chain.block(99) is None


def test_time_goes_forward_only():
    """A block is later than its parent, by a set number of seconds unless told."""
    chain = story.new_chain()
    with pytest.raises(ValueError, match="not after"):
        chain.mine(chain.head.time_s)
    with pytest.raises(ValueError, match="the first one stays"):
        chain.roll_back(len(chain.blocks))
    before = chain.head.time_s
    assert chain.wait(100).time_s == before + 100


def test_equal_lives_give_equal_hashes():
    """Nothing is drawn or read from a clock."""

    def life():
        chain = story.new_chain()
        story.deposit(chain, 5)
        chain.mine()
        chain.reorganise(1)
        return [block.hash for block in chain.blocks]

    assert life() == life()


def test_views_and_what_is_not_there():
    """Tokens, status, and the revert of everything else; coin that goes to nobody's contract arrives."""
    chain = story.new_chain()
    world = chain.world
    assert view(world, story.TOKEN, BalanceOf(SENDER)) == story.RICH
    assert view(world, story.TOKEN, Allowance(SENDER, story.ADJUDICATOR)) == 2**256 - 1
    assert view(world, story.ADJUDICATOR, StatusOf(story.channel())) == bytes(32)
    for to, call in ((story.CONSENSUS, StatusOf(story.channel())), (story.ADJUDICATOR, BalanceOf(SENDER))):
        with pytest.raises(Revert):
            view(world, to, call)
    for to in (story.ADJUDICATOR, story.TOKEN, story.CONSENSUS):
        with pytest.raises(Revert):
            execute(world.copy(), SENDER, to, None, 1, chain.head.time_s)
    with pytest.raises(InvalidValue, match="no function with the selector 0x01020304"):
        decode_call(b"\x01\x02\x03\x04")
