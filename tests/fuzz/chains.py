"""What an endpoint of the chain answers, and what strangers put on the chain: events, calldata, states in them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

Decode = Callable[[bytes], object]


def endpoint_answers() -> tuple[Decode, list[bytes]]:
    """JSON of an endpoint, as each kind of answer and as an error; the first byte chooses which."""
    from scapp.channels.chain import rpc_answers as read

    readers: list[Callable[[object], object]] = [
        read.block_of,  # type: ignore[list-item]  # any JSON may come
        read.logs_of,
        read.receipt_of,  # type: ignore[list-item]
        read.calldata_of,  # type: ignore[list-item]
        read.number_of,
        read.refused_of,
    ]
    word, address = "0x" + "11" * 32, "0x" + "22" * 20
    block = {"number": "0x5", "hash": word, "parentHash": word, "timestamp": "0x6", "logsBloom": "0x" + "00" * 256}
    log = {
        "address": address, "topics": [word], "data": "0x01", "blockNumber": "0x5", "blockHash": word,
        "transactionHash": word, "logIndex": "0x0",
    }  # fmt: skip
    receipt = {"transactionHash": word, "blockNumber": "0x5", "blockHash": word, "status": "0x1", "gasUsed": "0x5"}
    error = {"code": 3, "message": "execution reverted", "data": "0x08c379a0" + "00" * 31 + "20" + "00" * 32}
    good: list[object] = [block, [log], receipt, {"input": "0x0102"}, "0xff", error]

    def decode(data: bytes) -> None:
        readers[data[0] % len(readers) if data else 0](msgspec.json.decode(data[1:]))

    return decode, [bytes([index]) + msgspec.json.encode(each) for index, each in enumerate(good)]


def chain_data() -> tuple[Decode, list[bytes]]:
    """Events of the adjudicator and calldata with states in it, as anybody may have made them."""
    from scapp.channels.chain.calls import Challenge, Checkpoint, Conclude, Deposit, decode_call, encode_call
    from scapp.channels.chain.contract_events import ChallengeRegistered, Deposited, decode_event, encode_event
    from scapp.channels.chain.judging import channel_of, state_hash_of
    from scapp.channels.outcome import encode_outcome
    from scapp.channels.reading import SignedState
    from scapp.channels.types import Address, ChannelId, Signature

    people = Address(b"\x0a" * 20), Address(b"\x0b" * 20)
    signatures = (Signature(b"\x04" * 64 + b"\x1b"),) * 2
    state = SignedState(people, 7, Address(b"\x0c" * 20), 600, b"data", encode_outcome(()), 3, False, signatures)
    channel, coin = ChannelId(b"\xc0" * 32), Address(bytes(20))
    calls = [
        Challenge((state,), state, signatures[0]), Checkpoint((), state), Conclude(state), Deposit(coin, channel, 5, 7),
    ]  # fmt: skip
    events = [ChallengeRegistered(channel, 9, (state,), state), Deposited(channel, coin, 12)]

    def decode(data: bytes) -> None:
        if data[:1] == b"\x00":
            call = decode_call(data[1:])
            if isinstance(call, Challenge | Checkpoint | Conclude):
                channel_of(call.candidate)
                state_hash_of(call.candidate)
            return
        count = data[1] % 5 if len(data) > 1 else 0
        topics = tuple(data[2 + 32 * at : 34 + 32 * at] for at in range(count))
        event = decode_event(topics, data[2 + 32 * count :])
        if isinstance(event, ChallengeRegistered):
            state_hash_of(event.candidate)

    good = [b"\x00" + encode_call(call) for call in calls]
    good += [bytes([1, len(topics)]) + b"".join(topics) + data for topics, data in map(encode_event, events)]
    return decode, good


def paywall_texts() -> tuple[Decode, list[bytes]]:
    """Headers between a buyer and the example paywall: a voucher, and what an answer says of its price."""
    from examples.paywall.offers import read_body_tariff
    from scapp.channels.nitro_json import read_voucher

    def decode(data: bytes) -> None:
        text = data[1:].decode("latin1")
        (read_voucher if data[:1] == b"\x00" else read_body_tariff)(text)

    voucher = b'{"ChannelId":"0x' + b"c0" * 32 + b'","Amount":5,"Signature":"0x' + b"04" * 65 + b'"}'
    return decode, [b"\x00" + voucher, b"\x01" + b"5, 3/1024"]
