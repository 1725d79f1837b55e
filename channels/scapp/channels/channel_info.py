"""One channel as `service.ChannelInfo` shows it, read from its engine."""

from __future__ import annotations

from scapp.channels.channel.engine import Engine
from scapp.channels.channel.standing import backing_info, chain_info
from scapp.channels.channel.succession import successor_of
from scapp.channels.service import ChannelInfo


def channel_info(engine: Engine, waiting: int) -> ChannelInfo:
    """`waiting`: own submissions whose receipts local callers wait for; the sequencer's are recorded nowhere else."""
    state = engine.state
    head = state.head
    setup = state.setup
    return ChannelInfo(
        channel_id=setup.channel_id,
        phase=engine.phase,
        waiting_for=engine.waiting_for,
        participants=setup.participants,
        my_index=setup.my_index,
        deployment=setup.deployment,
        deployment_id=setup.deployment_id,
        slots=setup.slots,
        turn=head.turn if head else None,
        signed_turn=state.signed_turn if state.signed_turn >= 0 else None,
        sequence=state.sequence,
        log_root=state.log_root,
        state_root=head.state_root if head else bytes(32),
        amounts=setup.unpack(head.amounts) if head else setup.start_amounts,
        time_ms=state.time_ms,
        pending=len(state.outstanding) or waiting,
        reason=state.rejected or engine.session.failure,
        chain=chain_info(state, engine.session),
        backing=backing_info(state),
        renews=setup.renews[0] if setup.renews is not None else None,
        successor=successor_of(state, engine.session),
    )
