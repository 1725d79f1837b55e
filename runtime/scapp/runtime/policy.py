"""Which proposed channels this node accepts without asking its operator; the node asks for each proposal.

The default accepts an app that was deployed here, from peers that are all in the peers list. Everything else waits
as `proposed` for `scapp channel accept` or `reject`.
"""

from __future__ import annotations

from collections.abc import Iterable

from scapp.channels.types import Address
from scapp.runtime.config import PolicySettings, read_address
from scapp.runtime.deployments import DeploymentStore
from scapp.runtime.peerbook import PeerBook


class AcceptPolicy:
    """Decides by settings, deployment and participants; changes of the peers list and of deployments count at once."""

    def __init__(self, settings: PolicySettings, apps: DeploymentStore, peers: PeerBook, own: Address) -> None:
        self._accept = settings.accept
        self._allowed = {read_address(text, "policy.allow") for text in settings.allow}
        self._apps = apps
        self._peers = peers
        self._own = own

    def why_not(self, deployment_id: bytes, participants: Iterable[bytes]) -> str:
        """Empty when the channel is accepted at once, else what keeps it waiting, in words."""
        if self._accept == "none":
            return "policy.accept is none: every channel waits for the operator"
        if self._apps.get(deployment_id) is None:
            return f"deployment 0x{deployment_id.hex()} is not known here; `scapp deploy` its module first"
        for participant in participants:
            if participant == self._own:
                continue
            if self._accept == "allow-list" and participant not in self._allowed:
                return f"0x{participant.hex()} is not in policy.allow"
            if self._accept == "known-deployments" and Address(participant) not in self._peers:
                return f"0x{participant.hex()} is not in the peers list; `scapp peers add` it or accept by hand"
        return ""
