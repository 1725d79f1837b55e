"""The peers list of one node: address, endpoint and an optional name, in `HOME/peers.json`.

Names exist for people; the node itself knows peers by address. `policy.py` asks who is in the list.
"""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec

from scapp.channels.errors import LocalError
from scapp.channels.types import Address
from scapp.runtime.config import Config, ConfigError, parse_listen, parse_peer, read_address
from scapp.runtime.keys_file import write_private

PEERS_FILE = "peers.json"


class Peer(msgspec.Struct, frozen=True):
    """One peer; `endpoint` is "host:port", `name` may be empty."""

    address: str
    endpoint: str
    name: str = ""

    @property
    def raw(self) -> Address:
        return Address(bytes.fromhex(self.address.removeprefix("0x")))


class PeerBook:
    """Peers from the file and from `[peers]` of the configuration (those win, and stay out of the file)."""

    def __init__(self, home: Path, config: Config | None = None) -> None:
        self._path = home / PEERS_FILE
        self._lock = threading.Lock()  # of changes; readers see one list or the next
        self._stored: dict[Address, Peer] = {}
        self._configured: dict[Address, Peer] = {}
        if self._path.exists():
            try:
                peers = msgspec.json.decode(self._path.read_bytes(), type=list[Peer])
                self._stored = {peer.raw: peer for peer in peers}
            except (msgspec.MsgspecError, ValueError) as error:
                raise LocalError(f"{self._path} is damaged: {error}; mend it or remove it") from None
        for name, text in (config.peers if config else {}).items():
            address, endpoint = parse_peer(text, f"peers.{name}")
            self._configured[address] = Peer("0x" + address.hex(), endpoint, name)

    def all(self) -> list[Peer]:
        return list({**self._stored, **self._configured}.values())

    def __contains__(self, address: object) -> bool:
        return address in self._stored or address in self._configured

    def get(self, address: Address) -> Peer | None:
        return self._configured.get(address) or self._stored.get(address)

    def add(self, address: Address, endpoint: str, name: str | None = None) -> Peer:
        """Add or change a peer; without `name` an earlier one stays. Raises LocalError."""
        parse_listen(endpoint, "endpoint")
        with self._lock:
            return self._add(address, endpoint, name)

    def _add(self, address: Address, endpoint: str, name: str | None) -> Peer:
        before = self.get(address)
        name = name if name is not None else (before.name if before else "")
        taken = next((p for p in self.all() if name and p.name == name and p.raw != address), None)
        if taken:
            raise LocalError(f"the name {name!r} belongs to {taken.address}; choose another")
        peer = Peer("0x" + address.hex(), endpoint, name)
        self._store({**self._stored, address: peer})
        return peer

    def remove(self, address: Address) -> Peer:
        """Trust a peer no longer. Raises LocalError for one that is not in the list, or in the configuration; one that
        is in both is taken out of the list all the same."""
        with self._lock:
            configured, removed = self._configured.get(address), self._stored.get(address)
            if removed is not None:
                self._store({known: peer for known, peer in self._stored.items() if known != address})
            if configured is not None:
                done = "is out of the stored list, but " if removed is not None else ""
                raise LocalError(f"{configured.name} {done}stands in [peers] of the configuration; take it out there")
            if removed is None:
                raise LocalError(f"0x{address.hex()} is not in the peers list")
            return removed

    def _store(self, stored: dict[Address, Peer]) -> None:
        text = msgspec.json.format(msgspec.json.encode(list(stored.values())), indent=2).decode()
        write_private(self._path, text + "\n", replace=True)
        self._stored = stored  # only what is stored counts

    def resolve(self, text: str) -> Address:
        """An address from `0x…` or from a name. Raises LocalError."""
        for peer in self.all():
            if peer.name == text:
                return peer.raw
        try:
            return read_address(text, "as an address")
        except ConfigError as error:
            names = ", ".join(sorted(p.name for p in self.all() if p.name)) or "none"
            raise LocalError(f"{text!r} is no peer's name (known: {names}); {error}") from None
