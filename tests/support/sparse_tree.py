"""The state tree written straight from docs/reference/state-root.md, without sharing or increments: the oracle."""

from __future__ import annotations

from collections.abc import Mapping

from sha3 import keccak_256


def keccak(data: bytes) -> bytes:
    return keccak_256(data).digest()


def path_of(table: int, key: bytes) -> bytes:
    return keccak(b"\x02" + table.to_bytes(2, "big") + key)


def naive_root(rows: Mapping[tuple[int, bytes], bytes]) -> bytes:
    """Root over {(table position, key encoding): row}."""
    return subtree({path_of(table, key): row for (table, key), row in rows.items()}, 0)


def subtree(leaves: Mapping[bytes, bytes], depth: int) -> bytes:
    """Hash of the leaves {path: row} that share their first `depth` bits."""
    if not leaves:
        return bytes(32)
    if len(leaves) == 1:
        ((path, row),) = leaves.items()
        return keccak(b"\x00" + path + keccak(row))
    sides: tuple[dict[bytes, bytes], dict[bytes, bytes]] = ({}, {})
    for path, row in leaves.items():
        sides[path[depth // 8] >> (7 - depth % 8) & 1][path] = row
    return keccak(b"\x01" + subtree(sides[0], depth + 1) + subtree(sides[1], depth + 1))
