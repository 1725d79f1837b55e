"""Admission over kernels: layers, replay, snapshots, errors by name, channels side by side in threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest

from scapp.channels.admission import Admission, AdmissionError, Admitted, ChannelContext
from scapp.channels.deployment import Deployment, Limits
from scapp.channels.entries import EMPTY_LOG_ROOT, extend_log_root
from scapp.channels.types import ChannelId
from scapp.runtime.admission import ReducerAdmission
from scapp.runtime.module import CheckedModule, ModuleRefused, check_module
from scapp.runtime.rows import encode_key, encode_row
from tests.support import wat
from tests.support.wat import CHANNEL, SCORE, message, op, open_entry

SCORES = wat.MANIFEST.tables[0]


def put_score(player: str, points: int) -> bytes:
    return op(wat.PUT, encode_row(SCORES, [player, points]), SCORE)


def module_for(deployment: Deployment) -> CheckedModule:
    checked = wat.scripted(deployment.limits)
    if deployment != checked.deployment:
        raise LookupError("never deployed")
    return checked


@pytest.fixture
def context() -> ChannelContext:
    return wat.context_of(wat.scripted(Limits()))


@pytest.fixture
def admission(context: ChannelContext) -> ReducerAdmission:
    ready = ReducerAdmission(module_for)
    ready.load(context, [])
    ready.try_batch(CHANNEL, 0, [open_entry()], strict=False)
    ready.commit(CHANNEL)
    return ready


LOG = [open_entry(), message(put_score("a", 1)), message(put_score("b", 2), op(wat.SET_OUTCOME, wat.amounts(30, 70)))]


def test_it_fits_the_port_of_the_engine() -> None:
    admission: Admission = ReducerAdmission(module_for)
    assert admission


def test_the_sequencer_leaves_out_what_is_refused_and_the_countersigner_agrees(
    admission: ReducerAdmission, context: ChannelContext
) -> None:
    candidates = [LOG[1], message(op(wat.TRAP)), LOG[2], message(op(wat.REJECT, b"no"))]
    ours = admission.try_batch(CHANNEL, 1, candidates, strict=False)
    assert ours.accepted == (0, 2)
    assert [(refusal.index, refusal.code) for refusal in ours.refusals] == [(1, "fault"), (3, "rejected")]
    assert ours.amounts == (30, 70)
    other = ReducerAdmission(module_for)
    other.load(context, LOG[:1])
    theirs = other.try_batch(CHANNEL, 1, [candidates[index] for index in ours.accepted], strict=True)
    assert theirs == Admitted((0, 1), (), ours.state_root, ours.amounts)


def test_strict_takes_all_or_nothing(admission: ReducerAdmission) -> None:
    base = admission.try_batch(CHANNEL, 1, [], strict=False)
    found = admission.try_batch(CHANNEL, 1, [LOG[1], message(op(wat.TRAP))], strict=True)
    assert (found.accepted, found.state_root, found.amounts) == ((), base.state_root, base.amounts)
    assert [refusal.index for refusal in found.refusals] == [1]
    with pytest.raises(AdmissionError, match="commit without a batch"):
        admission.commit(CHANNEL)


def test_a_new_layer_replaces_the_old_one_and_rollback_forgets_it(
    admission: ReducerAdmission, context: ChannelContext
) -> None:
    first = admission.try_batch(CHANNEL, 1, [LOG[1]], strict=False)
    assert admission.try_batch(CHANNEL, 1, [LOG[2]], strict=False) != first
    assert admission.try_batch(CHANNEL, 1, [LOG[1]], strict=False) == first
    admission.rollback(CHANNEL)
    admission.rollback(CHANNEL)
    with pytest.raises(AdmissionError, match="commit without a batch"):
        admission.commit(CHANNEL)
    admission.try_batch(CHANNEL, 1, [LOG[1]], strict=False)
    admission.commit(CHANNEL)
    assert admission.load(context, LOG[:2]).state_root == first.state_root


def test_a_batch_has_to_start_where_the_base_ends(admission: ReducerAdmission) -> None:
    for sequence in (0, 2):
        with pytest.raises(AdmissionError, match=f"a batch from sequence {sequence}; the base ends at 1"):
            admission.try_batch(CHANNEL, sequence, [LOG[1]], strict=False)


def test_load_replays_to_the_same_base_however_often(context: ChannelContext) -> None:
    admission = ReducerAdmission(module_for)
    loaded = admission.load(context, LOG)
    assert loaded.amounts == (30, 70)
    assert (loaded.accepted, loaded.refusals) == ((), ())
    admission.try_batch(CHANNEL, 3, [message(put_score("z", 1))], strict=False)
    assert admission.load(context, LOG) == loaded  # and the layer is gone
    with pytest.raises(AdmissionError, match="commit without"):
        admission.commit(CHANNEL)
    assert ReducerAdmission(module_for).load(context, LOG) == loaded
    assert admission.load(context, LOG[:2]) != loaded
    assert admission.load(context, []).amounts == (60, 40)


def test_an_entry_that_does_not_replay_halts_the_channel_and_keeps_what_was_loaded(
    admission: ReducerAdmission, context: ChannelContext
) -> None:
    with pytest.raises(
        AdmissionError, match=r"supported entry 2 does not replay here \(rejected: no\); the channel halts"
    ):
        admission.load(context, [*LOG[:2], message(op(wat.REJECT, b"no"))])
    assert admission.try_batch(CHANNEL, 1, [LOG[1]], strict=False).accepted == (0,)


def test_a_reducer_that_fills_its_memory_replays_after_a_restart(context: ChannelContext) -> None:
    """Each message was signed alone; together in one instance the second would fail."""
    leaking = [message(op(wat.COUNT_UP_TO, arg=1), put_score("a", number)) for number in range(5)]
    admission = ReducerAdmission(module_for)
    admission.load(context, [open_entry()])
    for sequence, entry in enumerate(leaking, 1):
        assert admission.try_batch(CHANNEL, sequence, [entry], strict=True).refusals == ()
        admission.commit(CHANNEL)
    signed = admission.try_batch(CHANNEL, 6, [], strict=True)
    assert ReducerAdmission(module_for).load(context, [open_entry(), *leaking]) == signed


def test_a_snapshot_and_the_tail_give_the_same_base(context: ChannelContext) -> None:
    admission = ReducerAdmission(module_for)
    admission.load(context, LOG[:2])
    snapshot, sequence, log_root = admission.snapshot(CHANNEL)
    assert (sequence, log_root) == (2, extend_log_root(EMPTY_LOG_ROOT, LOG[:2]))
    other = ReducerAdmission(module_for)
    restored = other.restore(context, snapshot, sequence, log_root, LOG[2:])
    assert restored == admission.load(context, LOG)
    assert other.load(context, LOG) == restored
    with pytest.raises(AdmissionError, match="the snapshot cannot be used"):
        other.restore(context, snapshot[:-1], sequence, log_root, LOG[2:])


def test_errors_name_channel_and_deployment(context: ChannelContext) -> None:
    admission = ReducerAdmission(module_for)
    stranger = ChannelId(b"\x99" * 32)
    for call in (
        lambda: admission.try_batch(stranger, 0, [], strict=False),
        lambda: admission.commit(stranger),
        lambda: admission.rollback(stranger),
        lambda: admission.snapshot(stranger),
    ):
        with pytest.raises(AdmissionError, match=r"channel 0x9999.* is not loaded"):
            call()
    admission.unload(stranger)
    foreign = ChannelContext(CHANNEL, context.participants, Deployment(bytes(32)), context.slots)
    with pytest.raises(AdmissionError, match=r"deployment [0-9a-f]{64} is not known here: never deployed"):
        admission.load(foreign, [])

    def refuse(_: Deployment) -> NoReturn:
        raise ModuleRefused("a start function")

    with pytest.raises(AdmissionError, match="cannot run here: a start function"):
        ReducerAdmission(refuse).load(context, [])
    with pytest.raises(AdmissionError, match="cannot run here: the channel runs deployment"):
        ReducerAdmission(lambda _: wat.scripted(Limits(rows_max=1))).load(context, [])


def test_a_module_that_fails_when_the_channel_opens_is_reported() -> None:
    trap = '(func (export "scapp_reduce") (param i32 i32) (result i32) unreachable)'
    checked = check_module(wat.module(wat.MEMORY, wat.ALLOC, trap))
    admission = ReducerAdmission(lambda _: checked)
    with pytest.raises(
        AdmissionError, match=r"supported entry 0 does not replay here \(fault: unreachable in function"
    ):
        admission.load(wat.context_of(checked), [open_entry()])


def test_unload_frees_and_load_builds_again(admission: ReducerAdmission, context: ChannelContext) -> None:
    admission.unload(CHANNEL)
    with pytest.raises(AdmissionError, match="is not loaded"):
        admission.commit(CHANNEL)
    assert admission.load(context, LOG).amounts == (30, 70)


def test_channels_run_side_by_side_and_keep_to_themselves() -> None:
    """Traps and imports of one thread never show in another's result."""
    checked = wat.scripted(Limits())
    admission = ReducerAdmission(module_for)

    def play(number: int) -> Admitted:
        channel = ChannelId(bytes([number]) * 32)
        context = wat.context_of(checked, channel)
        admission.load(context, [open_entry()])
        spoil = op(wat.TRAP) if number % 2 else op(wat.SET_OUTCOME, b"short")
        sequence = 1
        for turn in range(12):
            good = message(put_score(f"p{turn}", number), op(wat.GET, encode_key(SCORES, [f"p{turn}"]), SCORE))
            batch = [good, message(put_score("x", 1), spoil), good]
            result = admission.try_batch(channel, sequence, batch, strict=False)
            assert result.accepted == (0, 2)
            assert ("unreachable" if number % 2 else "5 bytes; allowed are 64") in result.refusals[0].reason
            admission.commit(channel)
            sequence += 2
        return admission.try_batch(channel, sequence, [], strict=True)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(play, range(8)))
    alone = [play(number) for number in range(8)]
    assert results == alone
