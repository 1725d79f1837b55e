"""keccak256: both providers give the same answers, and a wrong one is refused at import."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from scapp.channels.crypto import _sha3, keccak256


@given(st.binary(max_size=600))
def test_the_fallback_computes_the_same_hash(data: bytes) -> None:
    assert keccak256(data) == _sha3(data)


def test_without_the_fast_provider_the_other_one_is_used() -> None:
    code = (
        "import sys; sys.modules['tiny_keccak'] = None\n"
        "from scapp.channels import crypto\n"
        "assert crypto.keccak256 is crypto._sha3\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_provider_that_is_not_keccak_is_refused() -> None:
    code = (
        "import sys, types, hashlib\n"
        "fake = types.ModuleType('tiny_keccak')\n"
        "fake.keccak256 = lambda data: hashlib.sha3_256(data).digest()\n"
        "sys.modules['tiny_keccak'] = fake\n"
        "import scapp.channels.crypto\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "does not compute keccak256" in done.stderr
