"""People, channels and states for tests of the chain service over the model."""

from __future__ import annotations

from scapp.channels.chain.calls import Call, Challenge, Deposit
from scapp.channels.chain.client import ChainClient
from scapp.channels.chain.judging import state_hash_of
from scapp.channels.chain.key import ChainKey
from scapp.channels.chain.model_chain import ModelChain, ModelTransaction
from scapp.channels.chain.model_world import Token, World
from scapp.channels.chain.performing import Performer
from scapp.channels.chain.settings import ChainSettings
from scapp.channels.crypto import keccak256
from scapp.channels.log.memory import MemoryLog
from scapp.channels.outcome import Allocation, Outcome, SingleAssetExit, address_to_destination, encode_outcome
from scapp.channels.reading import SignedState
from scapp.channels.signing import Signer
from scapp.channels.state import FixedPart, VariablePart, challenge_hash, channel_id, state_hash
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId, Destination, Hash

ADJUDICATOR, CONSENSUS, TOKEN = (Address(bytes([n]) * 20) for n in (0xA1, 0xA2, 0xA3))
ALICE, BOB = Signer(b"\x0a" * 32), Signer(b"\x0b" * 32)
PAYER = ChainKey(b"\x0c" * 32)
RICH = 10**21
OTHER = Address(b"\xee" * 20)  # somebody with an account
CHALLENGE_S = 1500


def fixed(nonce: int) -> FixedPart:
    return FixedPart((ALICE.address, BOB.address), nonce, CONSENSUS, CHALLENGE_S)


def channel(nonce: int = 1) -> ChannelId:
    return channel_id(fixed(nonce))


def outcome(alice: int, bob: int, asset: Address = ZERO_ADDRESS) -> Outcome:
    shares = ((ALICE, alice), (BOB, bob))
    return (SingleAssetExit(asset, tuple(Allocation(address_to_destination(s.address), share) for s, share in shares)),)


def moving(to: ChannelId, moved: int, left: int) -> Outcome:
    """An outcome that moves some coin to another channel, and pays Alice what is left."""
    (paid,) = outcome(left, 0)
    return (SingleAssetExit(ZERO_ADDRESS, (Allocation(Destination(to), moved), *paid.allocations)),)


def state(turn: int, shares: Outcome, *, nonce: int = 1, final: bool = False) -> SignedState:
    """A state of the channel under both signatures."""
    return signed(fixed(nonce), turn, shares, final=final)


def signed(part: FixedPart, turn: int, shares: Outcome, *, final: bool = False) -> SignedState:
    """A state of any channel of Alice and Bob under both signatures."""
    hash_ = state_hash(channel_id(part), VariablePart(shares, b"", turn, final))
    return SignedState(
        part.participants, part.nonce, part.app_definition, part.challenge_duration, b"", encode_outcome(shares), turn,
        final, (ALICE.sign(hash_), BOB.sign(hash_)),
    )  # fmt: skip


def challenge_with(candidate: SignedState) -> Challenge:
    return Challenge((), candidate, BOB.sign(challenge_hash(state_hash_of(candidate))))


def new_chain(blocks: int = 1) -> ModelChain:
    """Contracts, a token, and money for those who pay."""
    world = World(ADJUDICATOR, CONSENSUS)
    world.tokens[TOKEN] = Token({PAYER.address: RICH, OTHER: RICH}, {(OTHER, ADJUDICATOR): 2**256 - 1})
    world.balances |= {PAYER.address: RICH, OTHER: RICH}
    chain = ModelChain(world)
    for _ in range(blocks):
        chain.mine()
    return chain


def do(chain: ModelChain, call: Call, value: int = 0, *, sender: Address = OTHER) -> Hash:
    """Somebody sends a call to the adjudicator; it waits for the next block."""
    mine = [item.nonce for item in chain.mempool if item.sender == sender]
    nonce = max([chain.world.nonces.get(sender, 0), *(number + 1 for number in mine)])
    content = sender + nonce.to_bytes(8, "big") + repr(call).encode() + chain.head.hash
    transaction = ModelTransaction(Hash(keccak256(content)), sender, nonce, ADJUDICATOR, call, value)
    chain.send(transaction)
    return transaction.hash


def deposit(chain: ModelChain, amount: int, *, nonce: int = 1) -> None:
    """Somebody pays into a channel, by what it holds now."""
    held = chain.world.held(ZERO_ADDRESS, channel(nonce))
    do(chain, Deposit(ZERO_ADDRESS, channel(nonce), held, amount), amount)


def settings(confirmations: int = 3, **others: object) -> ChainSettings:
    given = {"endpoints": (), "chain_id": 1337, "poll_seconds": 0.01, "stuck_blocks": 3} | others
    return ChainSettings(adjudicator=ADJUDICATOR, consensus_app=CONSENSUS, confirmations=confirmations, **given)  # type: ignore[arg-type]


def performer(client: ChainClient, configured: ChainSettings, log: MemoryLog) -> Performer:
    return Performer(configured, client, log, PAYER, ALICE.sign)
