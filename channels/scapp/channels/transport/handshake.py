"""Proving who the peer is, once TLS is up: a pure state machine; `link.py` carries its frames.

    client                                   server
      Hello(version, address, nonce, expected)  →
                        ←  Hello(version, address, nonce, client's address)
      Auth(signature)                           →        (client proved)
                        ←  Auth(signature)               (server proved)

Each signature is made by the speaker's channel key over the server certificate *as the speaker sees it*, both
nonces and both addresses. A relay has to present a certificate of its own and so breaks both signatures
(docs/adrs/0010-authenticated-tcp.md). The server proves itself only to a client that has proved itself first.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol

from scapp.channels.errors import PeerError
from scapp.channels.transport.frames import Auth, Close, Frame, Hello
from scapp.channels.types import Address, Signature

PROTOCOL_VERSION = 1
_DOMAIN = b"scapp transport 1"


class HandshakeError(PeerError):
    """The other end did not prove who it is, or is not who it has to be."""


class TransportSigner(Protocol):
    """The part of `signing.Signer` that a transport needs."""

    @property
    def address(self) -> Address: ...

    def sign_text(self, data: bytes, /) -> Signature: ...


Recover = Callable[[bytes, Signature], Address]
"""`signing.recover_text`: who signed this text; raises ValueError or PeerError for no valid signature."""


class Role(enum.IntEnum):
    """Who opened the TCP connection. The numbers are signed and never change."""

    CLIENT = 1
    SERVER = 2


class Step(enum.Enum):
    """What the state machine waits for."""

    HELLO = "Hello"
    AUTH = "Auth"
    DONE = "nothing"


def signed_text(role: Role, certificate_hash: bytes, client: Hello, server: Hello) -> bytes:
    """The 154 bytes that `role` signs under EIP-191; a state digest has 32, so none can be mistaken for the other."""
    nonces = client.nonce + server.nonce
    return _DOMAIN + bytes([role]) + certificate_hash + nonces + client.address + server.address


def show(address: bytes) -> str:
    """An address as people write it."""
    return "0x" + address.hex()


class Handshake:
    """One end of one connection's handshake.

    `certificate_hash`: SHA-256 of the server's certificate in DER, 32 bytes (its own at the server, the one
    presented at the client). `nonce`: 32 fresh random bytes. `expected`: whom the client means to reach.
    `authorize` is asked at the server once the address is proved.
    """

    def __init__(
        self,
        role: Role,
        signer: TransportSigner,
        recover: Recover,
        *,
        certificate_hash: bytes,
        nonce: bytes,
        expected: Address | None = None,
        authorize: Callable[[Address], bool] | None = None,
    ) -> None:
        if (role is Role.CLIENT) != (expected is not None):
            raise ValueError("a client names whom it expects, a server does not")
        self._role = role
        self._signer = signer
        self._recover = recover
        self._certificate_hash = certificate_hash
        self._authorize = authorize
        self._expected = expected
        self._own = Hello(PROTOCOL_VERSION, signer.address, nonce, expected or b"")
        self._theirs: Hello | None = None
        self.step = Step.HELLO

    @property
    def claimed(self) -> Address | None:
        """The address the other end claims, proved or not; for logs only."""
        return None if self._theirs is None else Address(self._theirs.address)

    @property
    def peer(self) -> Address:
        """The proved address; only once `step` is DONE."""
        assert self.step is Step.DONE, "asked for the peer before it was proved"
        assert self._theirs is not None
        return Address(self._theirs.address)

    def start(self) -> list[Frame]:
        """Frames to send before anything has been received."""
        return [self._own] if self._role is Role.CLIENT else []

    def receive(self, frame: Frame) -> list[Frame]:
        """Frames to send in answer; raises HandshakeError, after which the connection must be closed."""
        if isinstance(frame, Close):
            raise HandshakeError(f"closed by the other end: {frame.reason!r}")
        if self.step is Step.HELLO and isinstance(frame, Hello):
            return self._on_hello(frame)
        if self.step is Step.AUTH and isinstance(frame, Auth):
            return self._on_auth(frame)
        raise HandshakeError(f"{type(frame).__name__} frame during the handshake, expected {self.step.value}")

    def _on_hello(self, hello: Hello) -> list[Frame]:
        if hello.version != PROTOCOL_VERSION:
            raise HandshakeError(f"protocol version {hello.version}: this node speaks {PROTOCOL_VERSION}")
        self._theirs = hello
        if hello.address == self._own.address:
            raise HandshakeError(f"the other end claims this node's own address {show(hello.address)}")
        if hello.nonce == self._own.nonce:
            raise HandshakeError("the other end sent this node's own nonce back")
        self._check_addressees(hello)
        self.step = Step.AUTH
        if self._role is Role.CLIENT:
            return [self._auth()]
        self._own = Hello(PROTOCOL_VERSION, self._own.address, self._own.nonce, hello.address)
        return [self._own]

    def _check_addressees(self, hello: Hello) -> None:
        """Each end must mean the other one."""
        own, theirs = self._own.address, hello.address
        if self._expected is not None and theirs != self._expected:
            raise HandshakeError(f"dialled {show(self._expected)} but {show(theirs)} answered")
        if hello.expected != own and (hello.expected or self._role is Role.CLIENT):
            raise HandshakeError(f"the other end expects {show(hello.expected)} here; this node is {show(own)}")

    def _on_auth(self, auth: Auth) -> list[Frame]:
        theirs = self._theirs
        assert theirs is not None
        role = Role.SERVER if self._role is Role.CLIENT else Role.CLIENT
        try:
            signer = self._recover(self._text(role), Signature(auth.signature))
        except (ValueError, PeerError) as error:
            raise HandshakeError(f"no valid signature by {show(theirs.address)}: {error}") from None
        if signer != theirs.address:
            raise HandshakeError(
                f"the handshake of {show(theirs.address)} is signed by {show(signer)}: "
                "another key, another connection, or somebody relays in the middle"
            )
        if self._authorize is not None and not self._authorize(Address(theirs.address)):
            raise HandshakeError(f"{show(theirs.address)} is not authorized to connect")
        self.step = Step.DONE
        return [self._auth()] if self._role is Role.SERVER else []

    def _auth(self) -> Auth:
        return Auth(self._signer.sign_text(self._text(self._role)))

    def _text(self, role: Role) -> bytes:
        assert self._theirs is not None
        client, server = (self._own, self._theirs) if self._role is Role.CLIENT else (self._theirs, self._own)
        return signed_text(role, self._certificate_hash, client, server)
