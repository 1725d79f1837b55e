"""Which proposed channels this node accepts, and pays into, without asking its operator; the node asks for each.

The default accepts an app that was deployed here, from peers that are all in the peers list. Everything else waits
as `proposed` for `scapp channel accept` or `reject`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scapp.channels.types import ZERO_ADDRESS, Address, money
from scapp.runtime.config import ConfigError, FundingSettings, PolicySettings, read_address
from scapp.runtime.deployments import DeploymentStore
from scapp.runtime.peerbook import PeerBook

COIN = "coin"


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
            unknown = f"deployment 0x{deployment_id.hex()} is not known here"
            return f"{unknown}; `scapp deploy` its module, or --from this channel, first"
        for participant in participants:
            if participant == self._own:
                continue
            if self._accept == "allow-list" and participant not in self._allowed:
                return f"0x{participant.hex()} is not in policy.allow"
            if self._accept == "known-deployments" and Address(participant) not in self._peers:
                return f"0x{participant.hex()} is not in the peers list; `scapp peers add` it or accept by hand"
        return ""


class FundingPolicy:
    """Decides about the deposits of a proposed channel, by settings alone."""

    def __init__(self, settings: FundingSettings, own_accounts: Iterable[bytes]) -> None:
        """Raises ConfigError for an asset, amount or account that cannot be read."""
        self._accept = settings.accept
        self._successors = settings.successors
        self._deposit_max = read_amounts(settings.deposit_max, "funding.deposit_max")
        self._exposure_max = read_amounts(settings.exposure_max, "funding.exposure_max")
        self._accounts = {*own_accounts, *(read_address(text, "funding.pay_to") for text in settings.pay_to)}

    def why_not_renew(self, *, asked: bool) -> str:
        """The same for a successor of a channel of ours, in which the app begins anew with what it takes over."""
        if asked or self._successors == "accept":
            return ""
        return (
            "it takes over from a channel of ours, whose app begins anew; just that, from the newest state, was not "
            "asked for here, and funding.successors is ask"
        )

    def why_not(
        self,
        deposits: Mapping[Address, int],
        pays_to: Iterable[bytes],
        at_stake: Mapping[Address, Mapping[Address, int]],
    ) -> str:
        """Empty when this node may deposit without asking, else why it asks. `deposits` are amounts by asset, `pays_to`
        the destinations of our slots, `at_stake` what we have in open channels with each other participant."""
        for destination in pays_to:
            if destination[12:] not in self._accounts:
                return f"our part would be paid to 0x{destination[12:].hex()}, which is not in funding.pay_to"
        if self._accept == "ask":
            return "funding.accept is ask: every deposit waits for the operator"
        for asset, amount in deposits.items():
            allowed = self._deposit_max.get(asset, 0)
            if amount > allowed:
                most = money(allowed, asset, named=True)
                return f"a deposit of {money(amount, asset)}; funding.deposit_max allows {most}"
            for other, stakes in at_stake.items():
                together = amount + stakes.get(asset, 0)
                allowed = self._exposure_max.get(asset, 0)
                if together > allowed:
                    return (
                        f"{money(together, asset)} would be in channels with 0x{other.hex()}; "
                        f"funding.exposure_max allows {money(allowed, asset, named=True)}"
                    )
        return ""


def read_amounts(settings: Mapping[str, str], name: str) -> dict[Address, int]:
    """A table of amounts by asset, `coin` or a token's address. Raises ConfigError."""
    found = {}
    for asset, amount in settings.items():
        if not amount.isdecimal():
            raise ConfigError(f"{name}.{asset} = {amount!r} is not a whole number of the asset's smallest unit")
        found[ZERO_ADDRESS if asset == COIN else read_address(asset, name)] = int(amount)
    return found
