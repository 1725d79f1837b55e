"""Calls of a contract by name, and its answers and events decoded: what web3 does, without its weight."""

from __future__ import annotations

from typing import Any

import eth_abi

from scapp.channels.crypto import keccak256
from tests.chain.evm import Log


def type_of(item: dict[str, Any]) -> str:
    """ABI type with tuples written out."""
    kind: str = item["type"]
    if kind.startswith("tuple"):
        return f"({','.join(type_of(part) for part in item['components'])})" + kind[len("tuple") :]
    return kind


class Interface:
    """An ABI with its functions and events by name."""

    def __init__(self, abi: list[dict[str, Any]]) -> None:
        self.inputs: dict[str, list[str]] = {}
        self._outputs: dict[str, list[str]] = {}
        self._selectors: dict[str, bytes] = {}
        self._events: dict[bytes, tuple[str, list[str]]] = {}
        for item in abi:
            if item["type"] not in ("function", "event"):
                continue
            name, types = item["name"], [type_of(part) for part in item["inputs"]]
            signature = keccak256(f"{name}({','.join(types)})".encode())
            if item["type"] == "event":
                plain = [t for t, part in zip(types, item["inputs"], strict=True) if not part["indexed"]]
                self._events[signature] = (name, plain)
            else:
                self.inputs[name], self._selectors[name] = types, signature[:4]
                self._outputs[name] = [type_of(part) for part in item["outputs"]]

    def call(self, name: str, *arguments: Any) -> bytes:
        """Calldata."""
        return self._selectors[name] + eth_abi.encode(self.inputs[name], arguments)

    def arguments(self, name: str, calldata: bytes) -> tuple[Any, ...]:
        return eth_abi.decode(self.inputs[name], calldata[4:])

    def answer(self, name: str, output: bytes) -> tuple[Any, ...]:
        return eth_abi.decode(self._outputs[name], output)

    def event(self, log: Log) -> tuple[Any, ...]:
        """(name, indexed values as they are…, other values…)"""
        name, types = self._events[log.topics[0]]
        return (name, *log.topics[1:], *eth_abi.decode(types, log.data))
