"""TLS contexts: 1.3 only, a fresh self-signed certificate for each listening node, nothing trusted by name.

TLS gives secrecy and a channel to bind to; who the peer is, `handshake.py` proves.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import tempfile
from datetime import UTC, datetime


def make_certificate() -> tuple[bytes, bytes]:
    """A new ECDSA P-256 key with its self-signed certificate: (both in PEM, the certificate in DER)."""
    # cryptography takes tens of milliseconds to import and only a listening node needs it.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "scapp node")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Nobody checks the dates: the certificate lives as long as the process.
        .not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = key_pem + certificate.public_bytes(serialization.Encoding.PEM)
    return pem, certificate.public_bytes(serialization.Encoding.DER)


def server_context() -> tuple[ssl.SSLContext, bytes]:
    """A context with a fresh certificate, and that certificate's SHA-256 (32 bytes)."""
    pem, der = make_certificate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a resumed connection would not show the certificate again
    # `ssl` loads keys from files only; mkstemp gives mode 0600, and the file is gone before anybody can connect.
    handle, path = tempfile.mkstemp(prefix="scapp-tls-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
        context.load_cert_chain(path)
    finally:
        os.unlink(path)
    return context, hashlib.sha256(der).digest()


def client_context() -> ssl.SSLContext:
    """A context that accepts any certificate; the handshake binds the one that was shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def shown_certificate_hash(connection: ssl.SSLObject) -> bytes:
    """SHA-256 of the certificate that the server of this connection has shown (32 bytes)."""
    der = connection.getpeercert(binary_form=True)
    assert der is not None, "a TLS 1.3 server always shows a certificate"
    return hashlib.sha256(der).digest()
