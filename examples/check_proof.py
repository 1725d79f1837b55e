#!/usr/bin/env python3
"""Checks a scapp proof document with nothing but Python: `check_proof.py FILE` prints what it proves, or fails.
A second argument is the address of the app for two parties, whose channels are their first and last participant's.

Written from docs/reference/proofs.md alone. It shares no code with scapp, so that nobody has to trust either.
"""

import json
import sys


# keccak256
def keccak(data):
    mask, lanes = 2**64 - 1, [0] * 25
    data += b"\x01" + bytes(-len(data) % 136 or 136)[1:]
    data = data[:-1] + bytes([data[-1] | 0x80])
    for block in range(0, len(data), 136):
        for i in range(17):
            lanes[i] ^= int.from_bytes(data[block + 8 * i : block + 8 * i + 8], "little")
        lfsr = 1
        for _ in range(24):
            c = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
            d = [c[x - 1] ^ ((c[(x + 1) % 5] << 1 | c[(x + 1) % 5] >> 63) & mask) for x in range(5)]
            lanes = [lane ^ d[i % 5] for i, lane in enumerate(lanes)]
            x, y, current = 1, 0, lanes[1]
            for t in range(24):
                x, y, turn = y, (2 * x + 3 * y) % 5, (t + 1) * (t + 2) // 2 % 64
                current, lanes[x + 5 * y] = lanes[x + 5 * y], (current << turn | current >> (64 - turn)) & mask
            for row in range(0, 25, 5):
                r = lanes[row : row + 5]
                lanes[row : row + 5] = [r[i] ^ (~r[(i + 1) % 5] & mask & r[(i + 2) % 5]) for i in range(5)]
            for j in range(7):
                lanes[0] ^= (lfsr & 1) << ((1 << j) - 1)
                lfsr = lfsr << 1 ^ (0x171 if lfsr & 0x80 else 0)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


# secp256k1
P, N = 2**256 - 2**32 - 977, 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)


def add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def multiply(point, times):
    total = None
    for bit in bin(times)[2:]:
        total = add(total, total)
        total = add(total, point) if bit == "1" else total
    return total


def signer(state_hash, signature):
    r, s, v = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
    need(len(signature) == 65 and v in (27, 28) and 0 < r < N and 0 < s <= N // 2, "a signature is malformed")
    digest = int.from_bytes(keccak(b"\x19Ethereum Signed Message:\n32" + state_hash), "big")
    y = pow(r**3 + 7, (P + 1) // 4, P)
    need((y * y - r**3 - 7) % P == 0, "a signature is by no key")
    y = y if y % 2 == v - 27 else P - y
    inverse = pow(r, -1, N)
    key = add(multiply((r, y), s * inverse % N), multiply(G, -digest * inverse % N))
    need(key is not None, "a signature is by no key")
    return keccak(key[0].to_bytes(32, "big") + key[1].to_bytes(32, "big"))[12:]


def need(condition, otherwise):
    if not condition:
        raise SystemExit(f"proves nothing: {otherwise}")


def raw(text):
    need(text.startswith("0x"), f"{text!r} is not hexadecimal")
    return bytes.fromhex(text[2:])


def word(number):
    return number.to_bytes(32, "big")


def check(document, two_party_app=None):
    """Returns (channel id, turn, row or None); raises SystemExit or another error when nothing is proved."""
    need(document["format"] == "scapp-proof-1", "another format")
    channel, state = document["channel"], document["state"]
    # 1. The channel id is the hash of who takes part, under which rules.
    participants = [raw(each) for each in channel["participants"]]
    need(len(set(participants)) == len(participants) > 0, "participants are missing or doubled")
    need(all(len(each) == 20 for each in participants), "a participant is no address")
    fixed = word(128) + word(int(channel["nonce"])) + raw(channel["app_definition"]).rjust(32, b"\0")
    fixed += word(channel["challenge_duration_s"]) + word(len(participants))
    channel_id = keccak(fixed + b"".join(each.rjust(32, b"\0") for each in participants))
    # 2. Each of them signed this state.
    app_data, outcome = raw(state["app_data"]), raw(state["outcome"])
    need(len(app_data) == 192 and app_data[:32] == word(1) and outcome[:32] == word(32), "another kind of state")
    head = channel_id + word(160) + word(160 + 32 + 192) + word(state["turn"]) + word(int(state["is_final"]))
    state_hash = keccak(head + word(192) + app_data + outcome[32:])
    signers = [signer(state_hash, raw(each)) if each != "0x" else None for each in state["signatures"]]
    if two_party_app is not None and raw(channel["app_definition"]) == two_party_app and state["turn"] >= 2:
        need(len(signers) == len(participants), "not one signature per participant")
        signers[1:-1] = [found or there for found, there in zip(signers[1:-1], participants[1:-1], strict=True)]
    need(signers == participants, "not signed by all participants")
    # 3. The state names the deployment and the root of the tables.
    need(keccak(raw(document["deployment"])) == app_data[32:64], "another deployment was signed")
    root = app_data[128:160]
    # 4. From the row, or from what stands in its place, the siblings lead to that root.
    key, siblings = raw(document["key"]), [raw(each) for each in document["siblings"]]
    path = keccak(b"\x02" + document["table"]["position"].to_bytes(2, "big") + key)
    row = None if document["row"] is None else raw(document["row"])
    need(len(siblings) <= 256 and all(len(each) == 32 for each in siblings), "malformed siblings")
    bits = int.from_bytes(path, "big")
    if row is not None:
        need(document["other"] is None, "both a row and another leaf")
        value = keccak(b"\0" + path + keccak(row))
    elif document["other"] is None:
        value = bytes(32)
    else:
        other, row_hash = raw(document["other"]["path"]), raw(document["other"]["row_hash"])
        need(len(other) == len(row_hash) == 32 and other != path, "malformed other leaf")
        need((int.from_bytes(other, "big") ^ bits) >> (256 - len(siblings)) == 0, "the other leaf lies elsewhere")
        value = keccak(b"\0" + other + row_hash)
    for depth in reversed(range(len(siblings))):
        left, right = (siblings[depth], value) if bits >> (255 - depth) & 1 else (value, siblings[depth])
        value = keccak(b"\x01" + left + right)
    need(value == root, "the row does not follow from the signed root")
    return channel_id, state["turn"], row


if __name__ == "__main__":
    need(len(sys.argv) in (2, 3), "call it with the document's FILE, and the two-party app's address if there is one")
    try:
        with open(sys.argv[1], encoding="utf-8") as file:
            found_app = raw(sys.argv[2]) if len(sys.argv) > 2 else None
            found_channel, found_turn, found_row = check(json.load(file), found_app)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise SystemExit(f"proves nothing: no proof document, {type(error).__name__}: {error}") from None
    print(f"channel 0x{found_channel.hex()}, turn {found_turn}:", "absent" if found_row is None else found_row.hex())
