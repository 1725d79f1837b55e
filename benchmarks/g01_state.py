"""G1: one channel state encoded, hashed, signed and verified, beside the bare signature library doing its two calls."""

from __future__ import annotations

import itertools

from benchmarks.runner import Measure, Result
from benchmarks.timing import Side, compare

STATES = 200
SECRET = bytes(range(1, 33))


def run() -> Result:
    """Every state has its own turn, roots and amounts, so nothing but the channel's constants is reused."""
    from coincurve import PrivateKey, PublicKey

    from scapp.channels.abi import StateHasher
    from scapp.channels.app_data import encode_app_data
    from scapp.channels.crypto import keccak256
    from scapp.channels.signing import Signer, Verifier
    from scapp.channels.types import ChannelId, Hash

    signer = Signer(SECRET)
    verifier = Verifier(signer.address)
    slots = [(bytes(20), bytes(12) + letter * 20, 10**18) for letter in (b"\xaa", b"\xbb")]
    hasher = StateHasher(ChannelId(keccak256(b"channel")), slots)
    deployment, roots = Hash(keccak256(b"deployment")), [Hash(keccak256(bytes([n]))) for n in range(256)]
    turns = itertools.count(2)

    def ours() -> None:
        for _ in range(STATES):
            turn = next(turns)
            app_data = encode_app_data(deployment, turn, roots[turn & 255], roots[turn + 1 & 255], 1_700_000_000_000)
            state = hasher.hash(app_data, (10**18 - turn, 10**18 + turn), turn, False)
            verifier.verify(state, signer.sign(state))

    key = PrivateKey(SECRET)

    def bare() -> None:
        for number in range(STATES):
            digest = roots[number]
            signature = key.sign_recoverable(digest, hasher=None)
            PublicKey.from_signature_and_message(signature, digest, hasher=None)

    outcome = compare(Side(ours, STATES), Side(bare, STATES))
    note = f"bare sign_recoverable + from_signature_and_message: {outcome.reference_rate:,.0f}/s"
    return Result(outcome.rate, "states/s", outcome.ratio, (note,))


MEASURES = [Measure("G1", "encode, hash, sign and verify one state, against bare coincurve", 0.85, run)]
