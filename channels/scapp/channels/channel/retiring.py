"""When a channel is over for its node, so that it may stay on the disk until somebody asks for it (ADR 0081).

Whoever asks gets the same engine as ever, folded from the same events: what is decided here is only who is loaded.
"""

from __future__ import annotations

from scapp.channels.channel.events import Retired
from scapp.channels.channel.model import ChannelState


def retirement(state: ChannelState) -> Retired | None:
    """The fact that nothing of the channel is open here any more, None while something is.

    Open is what this node may still have to say, to sign, to claim or to watch: without money a channel is over with
    its final state; with deposits once what the chain pays out is paid, as deep as it confirms; over ledgers once they
    have released it. What it has not said to the end keeps any of them open."""
    if state.recovering or state.outstanding or not _is_over(state):
        return None
    turn = state.head.turn if state.head is not None else -1
    return Retired(state.phase, turn, bytes(state.setup.deployment_id))


def _is_over(state: ChannelState) -> bool:
    if state.rejected is not None:
        # The ledgers hear of it at each start for as long as they may know the channel.
        return state.head is None and not (state.backed is not None and state.backed.signed)
    if state.candidates:
        return False
    return state.phase == "settled" or (state.phase == "closed" and not state.setup.funded)
