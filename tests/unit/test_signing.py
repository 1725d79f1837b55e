"""Signatures: known answers, every way a peer's can be wrong, both backends, threads, and no leaked secret."""

from __future__ import annotations

import contextlib
import copy
import itertools
import pickle
import sys
import threading

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels import curve, signing
from scapp.channels.crypto import keccak256
from scapp.channels.curve import ORDER
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.signing import (
    InvalidKey,
    InvalidSignature,
    Signer,
    Verifier,
    address_of,
    eth_digest,
    normalise_v,
    recover,
    recover_text,
    text_digest,
)

ALICE = Signer(bytes.fromhex("2d999770f7b5d49b694080f987b82bbc9fc9ac2b4dcc10b0f8aba7d700f69c6d"))
MALLORY = Signer(b"\x66" * 32)
H = keccak256(b"a state")
FIELD = 2**256 - 2**32 - 977
secrets = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
hashes = st.binary(min_size=32, max_size=32)


@pytest.fixture(params=["direct", "public"], autouse=True)
def backend(request, monkeypatch):
    """Every test here runs over both ways into the library."""
    chosen = curve.DirectBackend() if request.param == "direct" else curve.PublicBackend()
    monkeypatch.setattr(signing, "_BACKEND", chosen)
    return chosen


def test_the_direct_backend_is_what_runs_here(monkeypatch):
    """The tests of the fast way test what is used."""
    assert isinstance(curve.choose_backend(), curve.DirectBackend)


@pytest.mark.parametrize("module", [None, type(sys)("coincurve._libsecp256k1")], ids=["missing", "changed"])
def test_without_the_private_module_the_public_classes_do_it(monkeypatch, module):
    """A new coincurve that moves its private parts slows a node down and does not stop it."""
    monkeypatch.setitem(sys.modules, "coincurve._libsecp256k1", module)
    chosen = curve.choose_backend()
    assert type(chosen) is curve.PublicBackend
    monkeypatch.setattr(signing, "_BACKEND", chosen)
    assert recover(H, Signer(b"\x01" * 32).sign(H)) == Signer(b"\x01" * 32).address


def test_a_backend_that_answers_differently_is_not_used(monkeypatch):
    """The self-test at import compares results, not names."""
    monkeypatch.setattr(curve.DirectBackend, "signs", lambda self, secret: lambda digest: bytes(65))
    assert type(curve.choose_backend()) is curve.PublicBackend


@given(secrets, hashes)
def test_signatures_equal_those_of_eth_account(secret, h):
    """An independent implementation makes the same 65 bytes and the same address."""
    signer = Signer(secret)
    account = Account.from_key(secret)
    assert signer.address == bytes.fromhex(account.address[2:])
    signature = signer.sign(h)
    assert signature == bytes(account.sign_message(encode_defunct(h)).signature)
    assert recover(h, signature) == signer.address
    assert signature[64] in (27, 28)
    assert int.from_bytes(signature[32:64], "big") <= ORDER // 2


@given(secrets, st.binary(max_size=300).filter(lambda text: len(text) != 32))
def test_texts_are_signed_as_by_eth_account(secret, text):
    """EIP-191 with the text's own length."""
    signer = Signer(secret)
    signature = signer.sign_text(text)
    assert signature == bytes(Account.from_key(secret).sign_message(encode_defunct(text)).signature)
    assert recover_text(text, signature) == signer.address


@pytest.mark.parametrize("call", [ALICE.sign_text, text_digest, lambda text: recover_text(text, bytes(65))])
def test_a_text_of_32_bytes_is_refused(call):
    """It would be a signature over a state."""
    with pytest.raises(LocalError, match="32 bytes"):
        call(bytes(32))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_only_hashes_of_32_bytes_are_digested(length):
    """Neither signing nor checking takes anything else for a hash."""
    for call in (eth_digest, ALICE.sign, lambda h: recover(h, bytes(65))):
        with pytest.raises(LocalError, match=f"{length} bytes"):
            call(bytes(length))


def with_s(signature: bytes, s: int) -> bytes:
    """The signature with another s."""
    return signature[:32] + s.to_bytes(32, "big") + signature[64:]


GOOD = ALICE.sign(H)
S = int.from_bytes(GOOD[32:64], "big")
TWIN = with_s(GOOD, ORDER - S)[:64] + bytes([55 - GOOD[64]])
WRONG = {
    "empty": b"",
    "64 bytes": GOOD[:64],
    "66 bytes": GOOD + b"\0",
    "v 0": GOOD[:64] + bytes([GOOD[64] - 27]),
    "v 26": GOOD[:64] + b"\x1a",
    "v 29": GOOD[:64] + b"\x1d",
    "v 255": GOOD[:64] + b"\xff",
    "high s, the valid twin": TWIN,
    "high s, same v": with_s(GOOD, ORDER - S),
    "s just above half": with_s(GOOD, ORDER // 2 + 1),
    "s zero": with_s(GOOD, 0),
    "s above the order": with_s(GOOD, ORDER + 5),
    "r zero": bytes(32) + GOOD[32:],
    "r above the order": b"\xff" * 32 + GOOD[32:],
    "r no point": (5).to_bytes(32, "big") + GOOD[32:],
    "all zeros": bytes(65),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_signature_of_the_wrong_form_is_refused(case):
    """With a reason that is the peer's fault, and no other exception."""
    with pytest.raises(InvalidSignature) as caught:
        recover(H, WRONG[case])
    assert isinstance(caught.value, PeerError)
    assert Verifier(ALICE.address).matches(H, WRONG[case]) is False


def test_half_the_order_itself_is_a_low_s():
    """The bound is inclusive: such a signature has some signer."""
    assert len(recover(H, with_s(GOOD, ORDER // 2))) == 20


@given(hashes, st.binary(min_size=60, max_size=70))
def test_any_bytes_are_refused_or_recovered(h, signature):
    """A peer's bytes raise nothing but InvalidSignature."""
    with contextlib.suppress(InvalidSignature):
        assert len(recover(h, signature)) == 20


def test_a_verifier_knows_its_own_address_only():
    """Another's valid signature, a flipped v and another hash are all refused."""
    verifier = Verifier(ALICE.address)
    assert verifier.matches(H, GOOD) is True
    assert verifier.matches(H, MALLORY.sign(H)) is False
    assert verifier.matches(keccak256(b"another"), GOOD) is False
    # The contracts recover by v: a state signed so would not count there, and must not count here.
    assert verifier.matches(H, GOOD[:64] + bytes([55 - GOOD[64]])) is False


OTHER_V = GOOD[:64] + bytes([55 - GOOD[64]])


def known() -> Verifier:
    """A verifier that has seen its address sign: from then on it checks against the key."""
    verifier = Verifier(ALICE.address)
    assert verifier.matches(keccak256(b"before"), ALICE.sign(keccak256(b"before")))
    return verifier


@pytest.mark.parametrize("make", [lambda: Verifier(ALICE.address), known], ids=["first", "known"])
def test_signed_asks_for_r_and_s_alone(make):
    """With either v, known key or not; but for this address, this hash and a v that the contracts have."""
    assert make().signed(H, GOOD) is True
    assert make().signed(H, OTHER_V) is True
    assert make().signed(H, MALLORY.sign(H)) is False
    assert make().signed(keccak256(b"another"), GOOD) is False
    with pytest.raises(LocalError):
        make().signed(H[:31], GOOD)


@pytest.mark.parametrize("make", [lambda: Verifier(ALICE.address), known], ids=["first", "known"])
@pytest.mark.parametrize("case", WRONG)
def test_a_signature_of_the_wrong_form_is_not_signed(make, case):
    """Neither are there two forms of one signature: a high s is nobody's, with whatever v."""
    assert make().signed(H, WRONG[case]) is False
    with pytest.raises(InvalidSignature):
        make().completed(H, WRONG[case])


@given(secrets, hashes, st.sampled_from([27, 28]))
def test_what_is_signed_is_completed_to_the_one_signature_that_matches(secret, h, v):
    """The right v is found whatever v came, and the other one matches nothing."""
    signer = Signer(secret)
    right = signer.sign(h)
    came = right[:64] + bytes([v])
    verifier = Verifier(signer.address)
    for _ in ("first", "known"):
        assert verifier.signed(h, came)
        assert verifier.completed(h, came) == right
    assert not verifier.matches(h, right[:64] + bytes([55 - right[64]]))


@given(hashes, st.binary(min_size=63, max_size=66))
def test_any_bytes_are_signed_by_nobody(h, signature):
    """A peer's bytes raise nothing."""
    for verifier in (Verifier(ALICE.address), known()):
        assert verifier.signed(h, signature) is False


def test_only_the_address_itself_completes():
    """A valid signature of somebody else stays his."""
    with pytest.raises(InvalidSignature, match="expected"):
        known().completed(H, MALLORY.sign(H))


# r plus the order is the x coordinate of a point: the only signatures that recovery ids 2 and 3 belong to.
BEYOND = next(
    r
    for r in itertools.count(1)
    if pow((r + ORDER) ** 3 + 7, (FIELD - 1) // 2, FIELD) == 1 and pow(r**3 + 7, (FIELD - 1) // 2, FIELD) != 1
)


def test_an_r_that_no_v_of_the_contracts_names_is_not_signed(backend):
    """Such a signature is valid over some hash for the key it gives, and would be support that no contract sees."""
    signature = BEYOND.to_bytes(32, "big") + (7).to_bytes(32, "big")
    digest = eth_digest(H)
    key = backend.recover_key(digest, signature, 2)
    assert key is not None
    verifier = Verifier(address_of(backend.serialize_key(key)))
    verifier._key, verifier._check = key, backend.checks(key)
    assert curve.DirectBackend().checks(direct_key(digest, signature))(digest, signature)
    for v in (b"\x1b", b"\x1c"):
        assert verifier.signed(H, signature + v) is False
        with pytest.raises(InvalidSignature):
            verifier.completed(H, signature + v)


def direct_key(digest: bytes, signature: bytes) -> bytes:
    key = curve.DirectBackend().recover_key(digest, signature, 2)
    assert key is not None
    return key


def test_a_backend_whose_check_is_wrong_is_not_used(monkeypatch):
    """Neither one that accepts everything nor one that accepts nothing."""
    for answer in (True, False):
        monkeypatch.setattr(curve.DirectBackend, "checks", lambda self, key, answer=answer: lambda *_: answer)
        assert type(curve.choose_backend()) is curve.PublicBackend


def test_verify_says_who_signed():
    """The reason goes into the log: both addresses."""
    Verifier(ALICE.address).verify(H, GOOD)
    with pytest.raises(
        InvalidSignature, match=f"signed by 0x{MALLORY.address.hex()}, expected 0x{ALICE.address.hex()}"
    ):
        Verifier(ALICE.address).verify(H, MALLORY.sign(H))


def test_a_verifier_needs_an_address():
    """Anything but 20 bytes is our own mistake."""
    with pytest.raises(LocalError, match="32"):
        Verifier(bytes(32))
    assert repr(Verifier(ALICE.address)) == f"Verifier(0x{ALICE.address.hex()})"


@pytest.mark.parametrize("v", [0, 1, 27, 28])
def test_v_is_normalised_on_request_only(v):
    """0 and 1 become 27 and 28; the others stay."""
    assert normalise_v(GOOD[:64] + bytes([v])) == GOOD[:64] + bytes([27 + v % 27])


@pytest.mark.parametrize("signature", [b"", GOOD[:64], GOOD + b"\0", GOOD[:64] + b"\x02", GOOD[:64] + b"\x1d"])
def test_nothing_else_is_normalised(signature):
    """No guess at what other values of v could mean."""
    with pytest.raises(InvalidSignature):
        normalise_v(signature)


@pytest.mark.parametrize("number", [0, ORDER, ORDER + 1, 2**256 - 1])
def test_keys_outside_the_curve_are_refused(number):
    """And the error does not repeat them."""
    secret = number.to_bytes(32, "big")
    with pytest.raises(InvalidKey) as caught:
        Signer(secret)
    assert secret.hex() not in str(caught.value)
    assert str(number) not in str(caught.value).replace("order minus 1", "") or number == 0


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_keys_of_another_length_are_refused(length):
    """A key file with a line end or in hexadecimal is told by its length."""
    with pytest.raises(InvalidKey, match=f"this one {length}"):
        Signer(b"\x01" * length)


def test_the_secret_does_not_leak():
    """Neither through text nor through pickling or copying."""
    secret = bytes(range(1, 33))
    signer = Signer(secret)
    for text in (repr(signer), str(signer), f"{signer}", repr([signer])):
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text
        assert signer.address.hex() in text
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="private key"):
            attempt(signer)
    assert not hasattr(signer, "__dict__")


def test_the_direct_backend_guards_what_c_reads():
    """The library reads 32 bytes whatever it is given, so shorter ones never get there."""
    direct = curve.DirectBackend()
    for secret, digest in ((b"\x01" * 31, H), (b"\x01" * 32, H[:31])):
        with pytest.raises(ValueError, match="31"):
            direct.signs(secret)(digest)
    with pytest.raises(ValueError, match="not a valid key"):
        direct.signs(bytes(32))(H)
    assert direct.recover(H[:31], GOOD, 0) is None
    assert direct.recover(H, GOOD[:63], 0) is None
    assert direct.recover(H, GOOD, 4) is None


def test_threads_do_not_share_buffers():
    """Signing and recovering release the interpreter lock; results must not mix."""
    wrong: list[str] = []

    def work(number: int) -> None:
        signer = Signer(bytes([number + 1]) * 32)
        for index in range(150):
            h = keccak256(bytes([number, index]))
            signature = signer.sign(h)
            if recover(h, signature) != signer.address:
                wrong.append(f"{number}/{index}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
