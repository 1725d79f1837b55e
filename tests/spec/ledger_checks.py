"""The `goLedger` vectors: signed updates of go-nitro's ledgers, and the errors of its consensus channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scapp.channels import nitro_json
from scapp.channels.errors import ScappError
from scapp.channels.ledger import consensus
from scapp.channels.ledger.balances import Balances, Parties, opening_balances
from scapp.channels.ledger.nitro_json import read_signed_proposal, write_signed_proposal
from scapp.channels.ledger.proposals import Add, Part, Proposal, Remove
from scapp.channels.outcome import AllocationType, address_to_destination
from scapp.channels.signing import Signer
from scapp.channels.state import FixedPart, channel_id
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from tests.spec.nitro_checks import number, raw, same

GO_TYPE = AllocationType.WITHDRAW_HELPER
"""go-nitro writes guarantees as type 1, which the contracts do not pay: its vectors need it."""


def check_ledger(entry: Any) -> None:
    """Apply every step, compare the state it leads to, and both signatures under it."""
    fixed = nitro_json.read_fixed_part(entry["fixedPartJson"])
    channel, asset = channel_id(fixed), Address(raw(entry["asset"].lower()))
    same("channelId", channel, raw(entry["channelId"]))
    parties = Parties(*(address_to_destination(participant) for participant in fixed.participants))
    amounts = [(asset, number(entry["leaderStart"]), number(entry["followerStart"]))]
    balances = opening_balances(parties, amounts, guarantee_type=GO_TYPE)
    # Both participants' views from here on; their own signatures are not known, so they begin without a check.
    leader = consensus.Ledger(fixed, channel, consensus.LEADER, balances, (b"", b""))
    follower = consensus.Ledger(fixed, channel, consensus.FOLLOWER, balances, (b"", b""))
    for step in entry["steps"]:
        leader, follower = _step(leader, follower, asset, step)


def _step(
    leader: consensus.Ledger, follower: consensus.Ledger, asset: Address, step: Any
) -> tuple[consensus.Ledger, consensus.Ledger]:
    amounts = {guarantee.target: guarantee.amount for guarantee in follower.current.assets[0].guarantees}
    proposed = read_signed_proposal(step["leaderSignedProposalJson"], asset, amounts)
    countersigned = read_signed_proposal(step["followerSignedProposalJson"], asset, amounts)
    for signed, name in ((proposed, "leaderSignedProposalJson"), (countersigned, "followerSignedProposalJson")):
        same(f"{name} after a round trip", write_signed_proposal(signed), step[name])
    same("leaderSignature", proposed.signature, raw(step["leaderSignature"]))
    same("followerSignature", countersigned.signature, raw(step["followerSignature"]))
    leader, mine = consensus.propose(leader, proposed.proposal, _Given(proposed.signature))
    same("turnNum", mine.turn, number(step["turnNum"]))
    follower = consensus.receive_proposal(follower, proposed)  # which checks the leader's signature
    queued = follower.queue[0]
    same("stateHash", queued.state_hash, raw(step["stateHash"]))
    same("outcomeEncoded", queued.after.encode_outcome(), raw(step["outcomeEncoded"]))
    same("outcomeJson", queued.after.outcome(), nitro_json.read_outcome(step["outcomeJson"]))
    follower, _ = consensus.sign_next(follower, proposed.proposal, _Given(countersigned.signature))
    leader = consensus.receive_countersigned(leader, countersigned)  # which checks the follower's
    same("the leader's view", leader.current, follower.current)
    return leader, follower


class _Given:
    """A signature from the vectors in place of a key that they do not contain."""

    def __init__(self, signature: bytes) -> None:
        self._signature = signature

    def sign(self, _: Any, /) -> Any:
        return self._signature


# --- errors ----------------------------------------------------------------------------------------------------------

KEYS = (Signer(b"\x01" * 32), Signer(b"\x02" * 32))
FIXED = FixedPart(tuple(key.address for key in KEYS), 7, Address(b"\x11" * 20), 100)
PARTIES = Parties(*(address_to_destination(key.address) for key in KEYS))
TARGET, OTHER = ChannelId(b"\xaa" * 32), ChannelId(b"\xbb" * 32)


def add(amount: int = 10, left: int = 4, target: ChannelId = TARGET) -> Add:
    return Add(target, PARTIES.leader, PARTIES.follower, (Part(ZERO_ADDRESS, amount, left),))


def remove(left: int, amount: int = 10, target: ChannelId = TARGET) -> Remove:
    return Remove(target, (Part(ZERO_ADDRESS, amount, left),))


def pair() -> list[consensus.Ledger]:
    """Both views of a new ledger with 100 for each party."""
    balances: Balances = opening_balances(PARTIES, [(ZERO_ADDRESS, 100, 100)])
    state_hash = balances.state_hash(channel_id(FIXED))
    signatures = (KEYS[0].sign(state_hash), KEYS[1].sign(state_hash))
    return [consensus.begin(FIXED, index, balances, signatures) for index in range(2)]


def _propose(proposal: Proposal, before: Proposal | None = None, index: int = 0) -> None:
    ledger = pair()[index]
    if before is not None:
        ledger, _ = consensus.propose(ledger, before, KEYS[0])
    consensus.propose(ledger, proposal, KEYS[0])


def _receive(change: Callable[[consensus.SignedProposal], consensus.SignedProposal], *, again: bool = False) -> None:
    leader, follower = pair()
    _, message = consensus.propose(leader, add(), KEYS[0])
    follower = consensus.receive_proposal(follower, change(message))
    if again:
        consensus.receive_proposal(follower, message)


def _sign(expected: Proposal | None) -> None:
    leader, follower = pair()
    if expected is not None:
        _, message = consensus.propose(leader, add(), KEYS[0])
        follower = consensus.receive_proposal(follower, message)
    consensus.sign_next(follower, expected or add(), KEYS[1])


def _countersigned(turn: int, signer: int) -> None:
    leader = pair()[0]
    leader, message = consensus.propose(leader, add(), KEYS[0])
    signature = KEYS[signer].sign(leader.queue[0].state_hash)
    consensus.receive_countersigned(leader, consensus.SignedProposal(message.ledger, add(), turn, signature))


def _with(message: consensus.SignedProposal, **changed: Any) -> consensus.SignedProposal:
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    return consensus.SignedProposal(**{**fields, **changed})


CASES: dict[str, Callable[[], None]] = {
    "wrong ledger": lambda: _receive(lambda m: _with(m, ledger=OTHER)),
    "left deposit > amount": lambda: _propose(add(10, 11)),
    "left insufficient": lambda: _propose(add(200, 150)),
    "right insufficient": lambda: _propose(add(200, 50)),
    "remove unknown": lambda: _propose(remove(1)),
    "add": lambda: _propose(add()),
    "add same target": lambda: _propose(add(), before=add()),
    "remove too much": lambda: _propose(remove(11), before=add()),
    "remove negative left amount": lambda: _propose(remove(-1), before=add()),
    "follower proposes": lambda: _propose(add(), index=1),
    "follower receives turn+2 first": lambda: _receive(lambda m: _with(m, turn=m.turn + 1)),
    "bad leader signature": lambda: _receive(lambda m: _with(m, signature=bytes(65))),
    "sign with empty queue": lambda: _sign(None),
    "duplicate receive": lambda: _receive(lambda m: m, again=True),
    "sign other than expected": lambda: _sign(add(9, 4)),
    "leader receives wrong signer": lambda: _countersigned(2, signer=0),
    "leader receives unknown turn": lambda: _countersigned(9, signer=1),
    "leader receives stale turn": lambda: _countersigned(1, signer=1),
}
REFUSED_HERE = {"remove negative left amount": "propose could not add new state vars: amounts 10 and -1; allowed are"}
"""What go-nitro lets pass and must not."""


def check_error(entry: Any) -> None:
    """The same refusal in the same words."""
    name, said = entry["Name"], "<nil>"
    try:
        CASES[name]()
    except ScappError as error:
        said = str(error)
    if name in REFUSED_HERE:
        same("refused here", said.startswith(REFUSED_HERE[name]), True)
    else:
        same("Error", said, entry["Error"])
