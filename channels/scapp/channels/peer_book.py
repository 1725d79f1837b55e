"""Where peers were last said to be: facts in the node's own stream, kept across restarts."""

from __future__ import annotations

import msgspec

from scapp.channels.errors import CorruptionError
from scapp.channels.log.port import NODE_STREAM, Append, EventLog, StreamWrite
from scapp.channels.types import Address


class PeerRemembered(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="peer.1"):
    """The operator named a peer's endpoint, `host:port`."""

    address: bytes
    endpoint: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(PeerRemembered)


class PeerBook:
    """The fold of the node's stream."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._endpoints: dict[Address, str] = {}
        for page in log.read(NODE_STREAM):
            for data in page.events:
                self._fold(data)

    def _fold(self, data: bytes) -> None:
        try:
            event = _decoder.decode(data)
        except msgspec.DecodeError as error:
            raise CorruptionError(f"stored node event cannot be read: {error}") from error
        self._endpoints[Address(event.address)] = event.endpoint

    def peers(self) -> dict[Address, str]:
        """Latest endpoint of each peer."""
        return dict(self._endpoints)

    def remember(self, address: Address, endpoint: str) -> None:
        """Store it, unless it is known already."""
        if self._endpoints.get(address) == endpoint:
            return
        data = _encoder.encode(PeerRemembered(address, endpoint))
        self._log.append(Append((StreamWrite(NODE_STREAM, self._log.version(NODE_STREAM), (data,)),)))
        self._endpoints[address] = endpoint
