"""A log whose states carry real signatures: what proofs are made of."""

from __future__ import annotations

from scapp.channels.admission import ChannelContext
from scapp.channels.app_data import encode_app_data
from scapp.channels.cosigned import encode_slots_outcome
from scapp.channels.crypto import keccak256
from scapp.channels.deployment import deployment_id
from scapp.channels.reading import SignedState
from scapp.channels.signing import Signer
from scapp.channels.state import FixedPart, channel_id, encode_state_of_outcome
from scapp.channels.types import ZERO_ADDRESS, ChannelId, Hash
from tests.support.postgres import DEPLOYMENT, SignedLog

SIGNERS = (Signer(b"\x01" * 32), Signer(b"\x02" * 32))


def fixed_part(nonce: int = 1) -> FixedPart:
    return FixedPart(tuple(signer.address for signer in SIGNERS), nonce, ZERO_ADDRESS, 86_400)


def cosigned_channel(nonce: int = 1) -> ChannelContext:
    """A channel of the two signers."""
    fixed = fixed_part(nonce)
    slots = ((bytes(20), bytes(12) + fixed.participants[0], 10), (bytes(20), bytes(12) + fixed.participants[1], 5))
    return ChannelContext(channel_id(fixed), fixed.participants, DEPLOYMENT, slots)


class CosignedLog(SignedLog):
    """`SignedLog` whose channels are `cosigned_channel(n)`, by nonce from 1 on in their order."""

    def signed_state(self, channel_id: ChannelId, position: int) -> SignedState | None:
        batch = next(self.batches(channel_id, position), None)
        if batch is None:
            return None
        contexts = self.contexts()
        number = next(n for n, context in enumerate(contexts) if context.channel_id == channel_id)
        context, fixed = contexts[number], fixed_part(number + 1)
        app_data = encode_app_data(
            deployment_id(context.deployment), batch.end_sequence, batch.log_root, batch.state_root, batch.time_ms
        )
        outcome = encode_slots_outcome(context.slots, batch.amounts)
        encoded = encode_state_of_outcome(channel_id, app_data, outcome, batch.turn, is_final=batch.is_final)
        return SignedState(
            *(fixed.participants, fixed.nonce, fixed.app_definition, fixed.challenge_duration),
            *(app_data, outcome, batch.turn, batch.is_final),
            tuple(signer.sign(Hash(keccak256(encoded))) for signer in SIGNERS),
        )
