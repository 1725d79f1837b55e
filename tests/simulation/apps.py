"""The apps that simulated channels run: a cheap one in Python, and the ledger reducer on the real kernel."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Any, Protocol

import msgpack

from scapp.channels.admission import ChannelContext
from scapp.channels.deployment import Deployment
from scapp.reducers import library
from scapp.runtime.admission import ReducerAdmission
from scapp.runtime.module import CheckedModule, check_module
from scapp.runtime.native.kernel import NativeKernel
from tests.support.fakes import SumAdmission


class App(Protocol):
    """What a life needs of an app. `admission` makes a node's admission, or its derivation's."""

    deployment: Deployment | None

    def admission(self, *, picky: bool = False) -> Any: ...

    def payload(self, draw: random.Random, addresses: list[bytes], number: int) -> bytes: ...


class SumApp:
    """`fakes.SumAdmission`; a picky participant refuses what the sequencer's app accepts."""

    deployment = None

    def admission(self, *, picky: bool = False) -> SumAdmission:
        return SumAdmission(refuse=b"odd") if picky else SumAdmission()

    def payload(self, draw: random.Random, addresses: list[bytes], number: int) -> bytes:
        if number % 3 == 0:
            return b"move:1:0:2"
        payload = draw.choice([b"good", b"bad", b"odd", b"move:0:1:1"])
        return payload if payload.startswith(b"move") else payload + b" %d" % number


@lru_cache
def _ledger() -> CheckedModule:
    return check_module(library.wasm_bytes("ledger"))


class LedgerApp:
    """The ledger that ships with the package, over the kernel that nodes run."""

    @property
    def deployment(self) -> Deployment:
        return _ledger().deployment

    def admission(self, *, picky: bool = False) -> ReducerAdmission:
        def kernel(context: ChannelContext) -> NativeKernel:
            return NativeKernel(_ledger(), context, track=False)

        return ReducerAdmission(kernel)

    def payload(self, draw: random.Random, addresses: list[bytes], number: int) -> bytes:
        what = draw.random()
        if what < 0.1:
            return b"not a message"
        amount = str(draw.choice([1, 1, 2, 3, 10**9]))  # the last is more than anybody has: refused
        return bytes(msgpack.packb({"transfer": {"to": draw.choice(addresses), "amount": amount}}))
