"""The handshake, both ends face to face without a network."""

from __future__ import annotations

import hashlib

import pytest

from scapp.channels.signing import Signer, recover_text
from scapp.channels.transport.certificates import make_certificate
from scapp.channels.transport.endpoints import parse_endpoint, show_endpoint, source_of
from scapp.channels.transport.frames import Auth, Close, Frame, Hello
from scapp.channels.transport.handshake import Handshake, HandshakeError, Role, Step, signed_text
from scapp.channels.types import Address
from tests.support.transport_bench import ALICE, BOB, CAROL

CERTIFICATE = bytes(range(32))


def client(signer: Signer = ALICE, expected: Address = BOB.address, certificate: bytes = CERTIFICATE) -> Handshake:
    return Handshake(
        Role.CLIENT, signer, recover_text, certificate_hash=certificate, nonce=b"c" * 32, expected=expected
    )


def server(signer: Signer = BOB, certificate: bytes = CERTIFICATE) -> Handshake:
    return Handshake(Role.SERVER, signer, recover_text, certificate_hash=certificate, nonce=b"s" * 32)


def shake(one: Handshake, other: Handshake) -> list[Frame]:
    """Carry frames to and fro until both are done; returns all of them."""
    seen: list[Frame] = []
    waiting = one.start()
    ends = [other, one]
    assert other.start() == []
    while waiting:
        seen += waiting
        waiting = [answer for frame in waiting for answer in ends[0].receive(frame)]
        ends.reverse()
    return seen


def test_both_ends_know_each_other() -> None:
    """Four frames, and each end has the other's address."""
    alice, bob = client(), server()
    seen = shake(alice, bob)
    assert [type(frame) for frame in seen] == [Hello, Hello, Auth, Auth]
    assert (alice.peer, bob.peer) == (BOB.address, ALICE.address)
    assert alice.step is bob.step is Step.DONE


def test_a_server_may_be_dialled_without_a_name() -> None:
    """A Hello that expects nobody in particular is answered; the port's dialler always names somebody."""
    bob = server()
    (answer,) = bob.receive(Hello(1, ALICE.address, b"c" * 32, b""))
    assert answer == Hello(1, BOB.address, b"s" * 32, ALICE.address)


def test_the_text_is_never_a_state_digest() -> None:
    """It has 154 bytes, every input has its place, and the roles differ."""
    one = Hello(1, ALICE.address, b"c" * 32, b"")
    two = Hello(1, BOB.address, b"s" * 32, b"")
    text = signed_text(Role.CLIENT, CERTIFICATE, one, two)
    assert len(text) == 154
    assert text == (b"scapp transport 1\x01" + CERTIFICATE + b"c" * 32 + b"s" * 32 + ALICE.address + BOB.address)
    assert text != signed_text(Role.SERVER, CERTIFICATE, one, two)
    assert text != signed_text(Role.CLIENT, CERTIFICATE, two, one)


def test_different_certificates_are_noticed_at_the_server() -> None:
    """What a relay causes: the ends see different certificates."""
    with pytest.raises(HandshakeError, match="somebody relays in the middle"):
        shake(client(certificate=bytes(32)), server())


def test_wrong_addressee() -> None:
    """The server refuses a Hello for somebody else; the client refuses an answer by somebody else."""
    with pytest.raises(HandshakeError, match=rf"expects 0x{CAROL.address.hex()} here"):
        shake(client(expected=CAROL.address), server())
    alice = client()
    alice.start()
    with pytest.raises(HandshakeError, match=rf"dialled 0x{BOB.address.hex()} but 0x{CAROL.address.hex()} answered"):
        alice.receive(Hello(1, CAROL.address, b"s" * 32, ALICE.address))


def test_the_client_wants_to_be_meant() -> None:
    """A server that answers somebody else, or nobody, has not read the client's Hello."""
    for meant in (CAROL.address, b""):
        with pytest.raises(HandshakeError, match="the other end expects"):
            client().receive(Hello(1, BOB.address, b"s" * 32, meant))


def test_reflected_nonce() -> None:
    """A nonce that comes back is a reflection."""
    with pytest.raises(HandshakeError, match="own nonce"):
        client().receive(Hello(1, BOB.address, b"c" * 32, ALICE.address))


@pytest.mark.parametrize("frame", [Close("no thanks"), Auth(bytes(65))], ids=["close", "auth-first"])
def test_unexpected_frames(frame: Frame) -> None:
    """Anything but the next step ends it, and a refusal's reason is passed on."""
    with pytest.raises(HandshakeError, match=r"'no thanks'|Auth frame during the handshake, expected Hello"):
        server().receive(frame)


def test_nothing_after_the_end() -> None:
    """A finished handshake takes no further frame."""
    alice, bob = client(), server()
    shake(alice, bob)
    with pytest.raises(HandshakeError, match="expected nothing"):
        bob.receive(Hello(1, ALICE.address, b"c" * 32, b""))


def test_roles_name_whom_they_expect() -> None:
    """A client without an expectation, or a server with one, is our own mistake."""
    with pytest.raises(ValueError, match="names whom it expects"):
        Handshake(Role.CLIENT, ALICE, recover_text, certificate_hash=CERTIFICATE, nonce=bytes(32))


def test_certificates_are_fresh() -> None:
    """Two nodes never share a certificate."""
    (_, one), (_, other) = make_certificate(), make_certificate()
    assert hashlib.sha256(one).digest() != hashlib.sha256(other).digest()


@pytest.mark.parametrize("endpoint", ["127.0.0.1:7000", "node.example:1", "[::1]:65535"])
def test_endpoints(endpoint: str) -> None:
    """What is parsed is shown as it was."""
    assert show_endpoint(*parse_endpoint(endpoint)) == endpoint


def test_sources() -> None:
    """IPv4 addresses count one by one, IPv6 addresses by their /64; mapped ones are IPv4."""
    assert source_of("192.0.2.1") != source_of("192.0.2.2")
    assert source_of("2001:db8::1") == source_of("2001:db8::2:1%eth0") == "2001:db8::/64"
    assert source_of("2001:db8:0:1::1") != source_of("2001:db8::1")
    assert source_of("::ffff:192.0.2.1") == source_of("192.0.2.1")
