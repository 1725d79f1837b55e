"""What is fuzzed: each decoder of foreign bytes, good inputs to begin with, and the only errors it may answer with."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from scapp.channels.channel.events import decode_event
from scapp.channels.channel.messages import (
    Countersign,
    Decisions,
    Entries,
    EntriesWanted,
    ModulePart,
    ModuleWanted,
    Proposal,
    Propose,
    Recall,
    Refuse,
    Rejected,
    ResizeAsked,
    Status,
    Submit,
    Supported,
    decode_message,
    encode_message,
)
from scapp.channels.channel.opening import created_from_proposal
from scapp.channels.channel_snapshots import Loaded
from scapp.channels.errors import CorruptionError, LocalError, PeerError
from scapp.channels.types import Address
from tests.fuzz.chains import chain_data, endpoint_answers, paywall_texts
from tests.fuzz.ledgers import ledger_facts, ledger_messages
from tests.fuzz.locked import invoices, lock_events, lock_messages
from tests.fuzz.virtuals import virtual_facts, virtual_messages
from tests.support.tree import ROOT

Decode = Callable[[bytes], object]
C32 = b"\xc0" * 32
GOLDEN = ROOT / "tests" / "golden"


@dataclass(frozen=True)
class Target:
    """`make` gives the decoder and good inputs; it imports what only this decoder needs. `allowed` are the documented
    errors; whatever else comes out is a finding. `seconds` of processor time: the longest that one input may take."""

    name: str
    make: Callable[[], tuple[Decode, list[bytes]]]
    allowed: tuple[type[Exception], ...]
    bytes_max: int = 4096
    seconds: int = 5


def frames() -> tuple[Decode, list[bytes]]:
    """Frames as they come from a socket, in pieces whose size the input chooses."""
    from scapp.channels.transport.frames import FrameDecoder, encode_frame

    def decode(data: bytes) -> None:
        decoder, step = FrameDecoder(), max(1, data[0] if data else 1)
        for start in range(1, len(data), step):
            decoder.feed(data[start : start + step])

    return decode, [
        b"\x07" + b"".join(map(encode_frame, some_frames())),
        *(b"\xff" + encode_frame(f) for f in some_frames()),
    ]


def some_frames() -> list[Any]:
    from scapp.channels.transport.frames import Ack, Auth, Close, Data, Hello, Open, Ping, Pong

    return [
        Hello(1, b"\x01" * 20, b"\x02" * 32, b""),
        Auth(b"\x03" * 65),
        Open(b"\x04" * 16, 1, b"", 0, 1_000_000, 100, 1_000_000),
        Data(1, b"payload"),
        Ack(1),
        Ping(1),
        Pong(1),
        Close("bye"),
    ]


def handshake() -> tuple[Decode, list[bytes]]:
    """What strangers send before anybody knows who they are."""
    from scapp.channels.signing import Signer, recover_text
    from scapp.channels.transport.frames import FrameDecoder, Hello, encode_frame
    from scapp.channels.transport.handshake import Handshake, Role

    mine, theirs = Signer(b"\x01" * 32), Signer(b"\x02" * 32)

    def server() -> Handshake:
        return Handshake(Role.SERVER, mine, recover_text, certificate_hash=b"\x05" * 32, nonce=b"\x06" * 32)

    client = Handshake(
        Role.CLIENT, theirs, recover_text, certificate_hash=b"\x05" * 32, nonce=b"\x07" * 32, expected=mine.address
    )
    answered = server()
    hello = client.start()
    auth = client.receive(answered.receive(hello[0])[0])

    def decode(data: bytes) -> None:
        end, decoder = server(), FrameDecoder()
        for frame in decoder.feed(data):
            end.receive(frame)

    good = b"".join(map(encode_frame, [*hello, *auth]))
    return decode, [good, encode_frame(Hello(9, mine.address, b"\x01" * 32, b""))]


def some_messages() -> list[Any]:
    return [
        proposal(),
        virtual_proposal(),
        successor_proposal(),
        ResizeAsked(C32, ((bytes(20), bytes(31) + b"\x01"),)),
        Rejected(C32, "no"),
        Submit(C32, 1, 1, (b"payload", b"")),
        Decisions(C32, ()),
        Propose(C32, 2, False, 1, (b"\x01" * 24,), C32, C32, b"", 5, (), b"\x05" * 65),
        Countersign(C32, 2, b"\x05" * 65),
        Refuse(C32, 2, "time", "late", 0),
        Status(C32, 1, 1, 1, C32, True, b"\x06" * 16, 3),
        Supported(C32, 2, False, 2, C32, C32, b"", 5, (b"\x05" * 65,) * 2),
        EntriesWanted(C32, 0, 5),
        Entries(C32, 1, (b"\x01" * 24,)),
        Recall(C32, 2, True, 1, (b"\x01" * 24,), C32, C32, b"", 5, (b"\x05" * 65, b"")),
        ModuleWanted(C32, 0),
        ModulePart(C32, 0, 9, b"module"),
    ]


@functools.cache
def proposal() -> Proposal:
    from tests.support.sim import Sim

    sim = Sim(2)
    sim.nodes[0].open(sim.nodes[1:], slots=(5, 5))
    found = decode_message(sim.queue[0][2])
    assert isinstance(found, Proposal)
    return found


@functools.cache
def virtual_proposal() -> Proposal:
    from tests.support.sim import Sim
    from tests.support.sim_backing import SimBacking

    sim = Sim(2)
    SimBacking(sim, 2).open((5, 5))
    found = decode_message(sim.queue[0][2])
    assert isinstance(found, Proposal)
    return found


@functools.cache
def successor_proposal() -> Proposal:
    from scapp.channels.types import ZERO_ADDRESS
    from tests.support.sim_chain import running

    sim, channel = running([(5,), (5,)])
    sim.resize(channel, {0: {ZERO_ADDRESS: 1}})
    found = decode_message(sim.queue[0][2])
    assert isinstance(found, Proposal)
    return found


def messages() -> tuple[Decode, list[bytes]]:
    return decode_message, [encode_message(message) for message in some_messages()]


def proposals() -> tuple[Decode, list[bytes]]:
    """A stranger's proposal up to the point where policy is asked."""
    good = proposal()
    me = Address(good.participants[1])

    def decode(data: bytes) -> object:
        found = decode_message(data)
        return created_from_proposal(found, me, good.time_ms) if isinstance(found, Proposal) else None

    return decode, [encode_message(each) for each in (good, virtual_proposal(), successor_proposal())]


def engine() -> tuple[Decode, list[bytes]]:
    """Messages of a participant into a running channel of three; the first byte chooses who is asked and who speaks."""
    from tests.support.sim import Sim

    sim = Sim(3)
    channel = sim.nodes[0].open(sim.nodes[1:], slots=(5, 5, 5))
    sim.settle()
    sim.nodes[0].submit(channel, b"in flight")
    good = [item[2] for item in sim.queue] + [encode_message(message) for message in some_messages()]
    drivers = [node.drivers[channel] for node in sim.nodes]

    def decode(data: bytes) -> None:
        if not data:
            return
        at, message = data[0] % 3, decode_message(data[1:])
        if isinstance(message, ModuleWanted | ModulePart):
            return
        found = drivers[at].engine
        before = found.state
        try:
            found.receive((at + 1 + data[0] // 3 % 2) % 3, message, sim.now_ms)
        finally:
            assert found.state is before, "a decision changed the state"
            found.session.__init__(3)  # type: ignore[misc]  # what one input left behind is not the next one's

    return decode, [bytes([who]) + each for each in good for who in (0, 1, 5)]


def stored_events() -> tuple[Decode, list[bytes]]:
    """The node's own files, altered: events, the node's events, rows of the outbox."""
    from scapp.channels.chain import events as chain_events
    from scapp.channels.channel.effects import parse_outbox_row
    from scapp.channels.node_events import decode_node_event

    golden = json.loads((GOLDEN / "stored-forms.json").read_text())
    readers: list[Decode] = [
        decode_event,
        decode_node_event,
        lambda row: parse_outbox_row(row[:33], row[33:]),
        chain_events.decode_event,
    ]

    def decode(data: bytes) -> None:
        readers[data[0] % 4 if data else 0](data[1:])

    kinds = {"outbox": 2, "node.r": 1, "chain.": 3}
    return decode, [bytes([kinds.get(name[:6], 0)]) + bytes.fromhex(text) for name, text in golden.items()]


def folded_events() -> tuple[Decode, list[bytes]]:
    """Events that decode, in an order that no node wrote: whatever they say, the channel is corrupt, not the start."""
    from tests.support.sim import Sim

    sim = Sim(2)
    channel = sim.nodes[0].open(sim.nodes[1:], slots=(5, 5))
    sim.settle()
    sim.nodes[1].submit(channel, b"one")
    sim.settle()
    events = [data for page in sim.nodes[1].log.read(channel) for data in page.events]
    array = msgspec.msgpack.Decoder(list[bytes])

    def decode(data: bytes) -> None:
        loaded = Loaded(channel)
        for event in array.decode(data):
            loaded = loaded.next(decode_event(event))

    encode = msgspec.msgpack.encode
    return decode, [encode(events), encode(events[:1]), encode(events[:3]), encode([events[0], events[-1]])]


def stored_pages() -> tuple[Decode, list[bytes]]:
    """Values of the log's rows below their checksums, and snapshots."""
    from scapp.channels.channel_snapshots import StateCodec
    from scapp.channels.log import framing
    from tests.support.sim import Sim

    key = framing.page_key(C32, 7)
    sim = Sim(2)
    channel = sim.nodes[0].open(sim.nodes[1:])
    sim.settle()
    driver = sim.nodes[0].drivers[channel]
    created = decode_event(next(sim.nodes[0].log.read(channel)).events[0])
    codec = StateCodec(channel, lambda: created)
    loaded = driver.loaded()
    assert loaded is not None
    readers: list[Decode] = [
        lambda data: framing.unframe_page(key, data),
        lambda data: framing.unframe_head(C32, data),
        lambda data: framing.unframe_outbox(key, data),
        lambda data: framing.unframe_snapshot(key, data),
        codec.decode,
    ]
    good = [
        framing.frame_page(key, (b"event", b""), 5)[0],
        framing.frame_head(C32, framing.Head(7, 5)),
        framing.frame_outbox(key, b"row"),
        framing.frame_snapshot(key, b"fold", 5),
        codec.encode(loaded),
    ]

    def decode(data: bytes) -> None:
        readers[data[0] % 5 if data else 0](data[1:])

    return decode, [bytes([index]) + data for index, data in enumerate(good)]


def entries() -> tuple[Decode, list[bytes]]:
    """Whoever reads an opening's parameters, which are of any shape, expects RecursionError too."""
    from scapp.channels.entries import Kind, OpenPayload, decode_entry, encode_entry

    payload = msgspec.msgpack.Decoder(OpenPayload)
    opening = proposal().entry

    def decode(data: bytes) -> None:
        entry = decode_entry(data)
        if entry.kind == Kind.OPEN:
            payload.decode(entry.payload)

    return decode, [opening, encode_entry(Kind.MESSAGE, 1, 7, 5, b"payload"), encode_entry(Kind.TICK, 1, 8, 5, b"")]


def deployments() -> tuple[Decode, list[bytes]]:
    from scapp.channels.deployment import Deployment, decode_deployment, encode_deployment

    return decode_deployment, [encode_deployment(Deployment(C32))]


def manifests() -> tuple[Decode, list[bytes]]:
    from scapp.reducers import library
    from scapp.reducers.manifest import encode_manifest, parse_manifest
    from scapp.runtime.module import check_module

    found = [check_module(library.wasm_bytes(name)).manifest for name in library.NAMES]
    return parse_manifest, [encode_manifest(manifest) for manifest in found]


def modules() -> tuple[Decode, list[bytes]]:
    """Reducers from strangers, up to their manifest: sections, features, imports, exports."""
    from scapp.runtime.module import check_module

    return check_module, [small_module(), b"\x00asm\x01\x00\x00\x00", (GOLDEN / "ledger-c.wasm").read_bytes()[:4096]]


def small_module() -> bytes:
    """The smallest reducer that passes: every check has something to look at, and compiling it takes no time."""
    import wasmtime

    from scapp.runtime.host import SIGNATURES

    name, (parameters, result) = next(iter(SIGNATURES.items()))
    typed = f"(param{' i32' * parameters}) (result{' i32' * result})" if result else f"(param{' i32' * parameters})"
    columns = [{"name": "who", "type": "address"}]
    manifest = {"name": "tiny", "version": "1", "tables": [{"name": "t", "key": 1, "columns": columns}]}
    document = json.dumps(manifest)
    escaped = document.replace('"', "\\22")
    return bytes(
        wasmtime.wat2wasm(
            f'(module (import "scapp_1" "{name}" (func {typed})) (memory (export "memory") 1 4) (table 1 2 funcref)'
            f' (func (export "scapp_manifest") (result i64) i64.const {(1024 << 32) + len(document)})'
            ' (func (export "scapp_alloc") (param i32) (result i32) i32.const 0)'
            ' (func (export "scapp_reduce") (param i32 i32) (result i32) i32.const 0)'
            f' (data (i32.const 1024) "{escaped}"))'
        )
    )


def sections() -> tuple[Decode, list[bytes]]:
    """The reader of module bytes that is ours; the engine has its own."""
    from scapp.runtime import wasm_sections

    def decode(data: bytes) -> None:
        for section in wasm_sections.sections(data):
            if section.id in (4, 5) and wasm_sections.count_of(data, section):
                wasm_sections.bounds_of(data, section)
        wasm_sections.with_maxima(data, {4: 10, 5: 10})

    return decode, [small_module(), b"\x00asm\x01\x00\x00\x00"]


def proofs() -> tuple[Decode, list[bytes]]:
    from scapp.runtime.proof_documents import check, read_document
    from tests.unit.test_proof_documents import proved

    def decode(data: bytes) -> None:
        check(read_document(data))

    absent = proved(key=("0x" + "ff" * 20,))
    return decode, [msgspec.json.encode(proved()), msgspec.json.encode(absent)]


def nitro_json() -> tuple[Decode, list[bytes]]:
    """Signed states, outcomes and ledger proposals as go-nitro writes them."""
    from scapp.channels.ledger.nitro_json import read_signed_proposal
    from scapp.channels.nitro_json import read_outcome, read_signed_state
    from scapp.channels.types import ChannelId

    vectors = json.loads((GOLDEN / "nitro-vectors.json").read_text())
    texts = _texts(vectors)
    states = [text for text in texts if text.startswith('{"State"')][:8]
    outcomes = [text for text in texts if text.startswith('[{"Asset"')][:8]
    proposals_ = [text for text in texts if text.startswith('{"Signature"')][:8]
    asset, amounts = Address(bytes(20)), {ChannelId(C32): 5}
    readers: list[Decode] = [read_signed_state, read_outcome, lambda data: read_signed_proposal(data, asset, amounts)]

    def decode(data: bytes) -> None:
        readers[data[0] % 3 if data else 0](data[1:])

    kinds = (states, outcomes, proposals_)
    return decode, [bytes([reader]) + text.encode() for reader, found in enumerate(kinds) for text in found]


def vouchers() -> tuple[Decode, list[bytes]]:
    """A voucher as JSON, up to the payee's purse."""
    from scapp.channels import nitro_json
    from scapp.channels.payments.vouchers import sign_voucher
    from scapp.channels.types import ChannelId
    from tests.support.payments import PAYER, payee_book

    def decode(data: bytes) -> None:
        payee_book(ChannelId(C32)).take(nitro_json.read_voucher(data), 0)

    texts = [nitro_json.write_voucher(sign_voucher(ChannelId(C32), amount, PAYER)) for amount in (1, 100)]
    return decode, [text.encode() for text in texts]


def payment_messages() -> tuple[Decode, list[bytes]]:
    from scapp.channels.payments import messages as said

    amount, signature = b"\x01" * 32, b"\x02" * 65
    good: list[said.PaymentMessage] = [
        said.Vouchers(((C32, amount, signature), (amount, C32, signature))),
        said.VouchersSeen(((C32, amount),)),
        said.VoucherRefusal(C32, amount, "why"),
        said.VoucherWanted(C32, said.NO_TOKEN),
        said.VoucherHeld(C32, said.NO_TOKEN, amount, signature),
    ]
    return said.decode_payment_message, [said.encode_payment_message(message) for message in good]


def purse_events() -> tuple[Decode, list[bytes]]:
    """Stored facts of a purse, and what follows of them."""
    from scapp.channels.payments.events import (
        PurseEvent,
        decode_purse_event,
        encode_purse_event,
        ends_purse,
        is_purse_event,
    )
    from scapp.channels.payments.purse import create, evolve
    from tests.support.payments import every_event

    def decode(data: bytes) -> None:
        is_purse_event(data)
        ends_purse(data)
        event: PurseEvent = decode_purse_event(data)
        evolve(create(every_event()[0]), event)

    return decode, [encode_purse_event(event) for event in every_event()]


def announcements() -> tuple[Decode, list[bytes]]:
    """What a peer says about ledgers, up to the table and what follows from it."""
    from scapp.channels.routing import messages as said
    from scapp.channels.routing.fees import Stake
    from scapp.channels.routing.own import HubTerms, OwnLedger
    from scapp.channels.routing.router import Router
    from scapp.channels.routing.statements import (
        Ledger,
        Room,
        Statement,
        Terms,
        network_of,
        read_statement,
        sign_statement,
    )
    from scapp.channels.signing import Signer

    me, hub, coin = Signer(b"\x01" * 32), Signer(b"\x02" * 32), Address(bytes(20))
    network, end = network_of(1, coin), Address(b"\x03" * 20)
    router = Router(me, network, HubTerms(announce=True))
    router.announce([OwnLedger(hub.address, ((coin, 9, 9),))], 0)
    router.on_link(hub.address, True)

    def decode(data: bytes) -> None:
        message = said.decode_message(data)
        for signed in getattr(message, "statements", ()):
            read_statement(signed.body)
        router.on_message(hub.address, message, 1)
        router.tick(1)
        router.routes(end, [Stake(coin, 1, 1)], 1, challenge_duration_s=5)

    terms = Terms(coin, C32, 10, bytes(32), C32)
    ledgers = tuple(Ledger(peer, (Room(coin, 9),)) for peer in (me.address, end))
    signed = sign_statement(Statement(hub.address, 1, 9_999, 1, 10, (terms,), ledgers), network, hub)
    good = [said.Statements((signed,), True), said.Known(bytes(20), b"\xff" * 20, ((end, 7),))]
    return decode, [said.encode_message(message) for message in good]


def _texts(value: Any) -> list[str]:
    """All texts within the vectors."""
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in items for text in _texts(item)]


def app_data() -> tuple[Decode, list[bytes]]:
    from scapp.channels.app_data import decode_app_data, encode_app_data

    return decode_app_data, [encode_app_data(C32, 5, C32, C32, 7)]


def api_bodies() -> tuple[Decode, list[bytes]]:
    """The body of every request of the local API, and the payloads within a send."""
    from scapp.runtime.api.payloads import from_json, payload_of
    from scapp.runtime.api.routes import ROUTES
    from scapp.runtime.api.server import decode_body
    from scapp.runtime.documents import OpenChannelRequest, SendRequest

    kinds = sorted({r.request for r in ROUTES if r.request not in (None, bytes)}, key=lambda kind: kind.__name__)  # type: ignore[union-attr]

    def decode(data: bytes) -> None:
        kind = kinds[data[0] % len(kinds)] if data else kinds[0]
        body = decode_body(data[1:], kind)
        if isinstance(body, SendRequest):
            for index, item in enumerate(body.messages):
                for encoding in ("msgpack", "json", "raw"):
                    payload_of(item, encoding, index)
        elif isinstance(body, OpenChannelRequest):
            from_json(body.params)

    texts = [
        b'{"messages":[{"json":{"a":[1,{"$hex":"0x00ff"}]}},{"hex":"0x01"},{"base64":"AAE="}],"timeout_s":1}',
        b'{"peers":["bob"],"app":"duel","params":{"stake":1},"slots":[{"asset":"0x' + b"00" * 20
        + b'","destination":"0x' + b"11" * 20 + b'","amount":"5"}],"challenge_duration_s":60,"wait_s":1}',
        b'{"sql":"SELECT $1","params":[1],"rows_max":10,"timeout_s":1}',
        b'{"address":"0x' + b"22" * 20 + b'","endpoint":"127.0.0.1:7420","name":"bob"}',
        b'{"path":"/backups/b","keys":true}',
        b'{"messages":[{"json":' + b"[" * 900 + b"]" * 900 + b"}]}",
        b'{"peers":["bob"],"app":"duel","params":' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}",
        b"{}",
    ]  # fmt: skip
    return decode, [bytes([number]) + text for number in range(len(kinds)) for text in texts]


def backups() -> tuple[Decode, list[bytes]]:
    from scapp.runtime.backup_format import FileMark, Manifest, parse_manifest

    good = Manifest(
        format="scapp-backup", version=1, made_ms=5, scapp="0.1.0", address="0x11", has_keys=False,
        channels=("0x" + "22" * 32,), files={"log/CURRENT": FileMark(16, "00" * 32)},
    )  # fmt: skip
    return lambda data: parse_manifest(data, "b"), [msgspec.json.encode(good)]


def _allowed_api() -> tuple[type[Exception], ...]:
    from scapp.runtime.api.errors import ApiError

    return (ApiError,)


def targets() -> list[Target]:
    """All of them, in the order in which they run."""
    from scapp.channels.abi import InvalidValue
    from scapp.channels.chain.client import Unavailable
    from scapp.reducers.manifest import ManifestError
    from scapp.runtime.module import ModuleRefused
    from scapp.runtime.proof_documents import ProofRefused
    from scapp.runtime.wasm_sections import SectionError

    return [
        Target("frames", frames, (PeerError,)),
        Target("handshake", handshake, (PeerError,)),
        Target("messages", messages, (PeerError,)),
        Target("proposals", proposals, (PeerError,)),
        Target("engine", engine, (PeerError,)),
        Target("ledgers", ledger_messages, (PeerError,)),
        Target("ledger-folds", ledger_facts, (CorruptionError, LocalError)),
        Target("virtuals", virtual_messages, (PeerError,)),
        Target("virtual-folds", virtual_facts, (CorruptionError, LocalError)),
        Target("events", stored_events, (CorruptionError,)),
        Target("folds", folded_events, (CorruptionError, msgspec.DecodeError)),
        Target("pages", stored_pages, (CorruptionError, ValueError)),
        Target("entries", entries, (ValueError, RecursionError)),
        Target("deployments", deployments, (ValueError,)),
        Target("manifests", manifests, (ManifestError,)),
        Target("modules", modules, (ModuleRefused,)),
        Target("sections", sections, (SectionError,)),
        Target("proofs", proofs, (ProofRefused,), bytes_max=8192),
        Target("nitro-json", nitro_json, (InvalidValue,)),
        Target("vouchers", vouchers, (InvalidValue, PeerError, LocalError), bytes_max=512),
        Target("payments", payment_messages, (PeerError,)),
        Target("purses", purse_events, (CorruptionError,)),
        Target("locks", lock_messages, (PeerError,)),
        Target("lock-facts", lock_events, (CorruptionError,)),
        Target("invoices", invoices, (LocalError,), bytes_max=1100),
        Target("announcements", announcements, (PeerError,)),
        Target("app-data", app_data, (InvalidValue,), bytes_max=512),
        Target("api", api_bodies, _allowed_api()),
        Target("backups", backups, (LocalError,)),
        Target("endpoint", endpoint_answers, (ValueError, Unavailable, RecursionError)),
        Target("chain", chain_data, (InvalidValue,)),
        Target("paywall", paywall_texts, (ValueError, LocalError), bytes_max=1100),
    ]


def checked(target: Target, decode: Decode) -> Decode:
    """The decoder as it is fuzzed: the documented errors are answers, everything else comes out."""

    def call(data: bytes) -> None:
        try:
            decode(data)
        except target.allowed:
            return

    return call
