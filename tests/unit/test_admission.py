"""Admission over kernels: layers, replay, snapshots, errors by name, channels side by side in threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scapp.channels.admission import Admission, AdmissionError, Admitted, BaseSnapshot, ChannelContext
from scapp.channels.deployment import Deployment, Limits
from scapp.channels.types import ChannelId
from scapp.runtime.admission import ReducerAdmission
from scapp.runtime.module import CheckedModule, ModuleRefused, check_module
from scapp.runtime.modules import kernel_maker
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


kernel_for = kernel_maker(module_for, track=False)


@pytest.fixture
def admission(context: ChannelContext) -> ReducerAdmission:
    ready = ReducerAdmission(kernel_for)
    ready.load(context, [])
    ready.try_batch(CHANNEL, 0, [open_entry()], strict=False)
    ready.commit(CHANNEL)
    return ready


LOG = [open_entry(), message(put_score("a", 1)), message(put_score("b", 2), op(wat.SET_OUTCOME, wat.amounts(30, 70)))]
SIGNED = [LOG[:1], LOG[1:]]  # the batches


def test_it_fits_the_port_of_the_engine() -> None:
    admission: Admission = ReducerAdmission(kernel_for)
    assert admission


def test_the_sequencer_leaves_out_what_is_refused_and_the_countersigner_agrees(
    admission: ReducerAdmission, context: ChannelContext
) -> None:
    candidates = [LOG[1], message(op(wat.TRAP)), LOG[2], message(op(wat.REJECT, b"no"))]
    ours = admission.try_batch(CHANNEL, 1, candidates, strict=False)
    assert ours.accepted == (0, 2)
    assert [(refusal.index, refusal.code) for refusal in ours.refusals] == [(1, "fault"), (3, "rejected")]
    assert ours.amounts == (30, 70)
    other = ReducerAdmission(kernel_for)
    other.load(context, [LOG[:1]])
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
    assert admission.load(context, [LOG[:1], LOG[1:2]]).state_root == first.state_root


def test_a_batch_has_to_start_where_the_base_ends(admission: ReducerAdmission) -> None:
    for sequence in (0, 2):
        with pytest.raises(AdmissionError, match=f"a batch from sequence {sequence}; the base ends at 1"):
            admission.try_batch(CHANNEL, sequence, [LOG[1]], strict=False)


def test_load_replays_to_the_same_base_however_often(context: ChannelContext) -> None:
    admission = ReducerAdmission(kernel_for)
    loaded = admission.load(context, SIGNED)
    assert loaded.amounts == (30, 70)
    assert (loaded.accepted, loaded.refusals) == ((), ())
    admission.try_batch(CHANNEL, 3, [message(put_score("z", 1))], strict=False)
    assert admission.load(context, SIGNED) == loaded  # and the layer is gone
    with pytest.raises(AdmissionError, match="commit without"):
        admission.commit(CHANNEL)
    assert ReducerAdmission(kernel_for).load(context, SIGNED) == loaded
    assert admission.load(context, [LOG[:1], LOG[1:2]]) != loaded
    assert admission.load(context, []).amounts == (60, 40)


def test_an_entry_that_does_not_replay_halts_the_channel_and_keeps_what_was_loaded(
    admission: ReducerAdmission, context: ChannelContext
) -> None:
    with pytest.raises(
        AdmissionError, match=r"supported entry 2 does not replay here \(rejected: no\); the channel halts"
    ):
        admission.load(context, [LOG[:2], [message(op(wat.REJECT, b"no"))]])
    assert admission.try_batch(CHANNEL, 1, [LOG[1]], strict=False).accepted == (0,)


def test_a_reducer_that_fills_its_memory_replays_after_a_restart(context: ChannelContext) -> None:
    """Each message was signed alone; together in one instance the second would fail."""
    leaking = [message(op(wat.COUNT_UP_TO, arg=1), put_score("a", number)) for number in range(5)]
    admission = ReducerAdmission(kernel_for)
    admission.load(context, [[open_entry()]])
    for sequence, entry in enumerate(leaking, 1):
        assert admission.try_batch(CHANNEL, sequence, [entry], strict=True).refusals == ()
        admission.commit(CHANNEL)
    signed = admission.try_batch(CHANNEL, 6, [], strict=True)
    assert ReducerAdmission(kernel_for).load(context, [[open_entry()], *([entry] for entry in leaking)]) == signed


def test_a_reducer_that_counts_messages_replays_as_it_was_signed(context: ChannelContext) -> None:
    """What a reducer remembers outside its tables lasts a batch, so in other batches entries give another root."""
    counting = [message(op(wat.EMIT_COUNT)) for _ in range(4)]
    admission = ReducerAdmission(kernel_for)
    signed = [[open_entry()], counting[:1], counting[1:]]
    base = admission.load(context, [])
    for batch in signed:
        sequence = admission.snapshot(CHANNEL).sequence
        base = admission.try_batch(CHANNEL, sequence, batch, strict=False)
        admission.commit(CHANNEL)
    assert ReducerAdmission(kernel_for).load(context, signed).state_root == base.state_root
    assert ReducerAdmission(kernel_for).load(context, [[open_entry()], counting]).state_root != base.state_root


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=4), max_size=6), st.data())
def test_a_snapshot_and_the_tail_give_the_same_base(points: list[list[int]], data: st.DataObject) -> None:
    """Wherever the snapshot was taken, and also when it went over with a layer on the base."""
    context = wat.context_of(wat.scripted(Limits()))
    batches = [
        [open_entry()],
        *([message(put_score(f"p{n}", n), op(wat.EMIT_COUNT)) for n in batch] for batch in points),
    ]
    taken = data.draw(st.integers(0, len(batches)))
    admission = ReducerAdmission(kernel_for)
    admission.load(context, batches[:taken])
    sequence = sum(map(len, batches[:taken]))
    admission.try_batch(CHANNEL, sequence, [message(put_score("p1", 99)) if taken else open_entry()], strict=False)
    snapshot = admission.snapshot(CHANNEL)
    assert snapshot.sequence == sequence
    other = ReducerAdmission(kernel_for)
    assert other.load(context, batches[taken:], snapshot) == admission.load(context, batches)
    assert other.snapshot(CHANNEL) == admission.snapshot(CHANNEL)


def test_a_snapshot_that_does_not_hold_together_is_refused(context: ChannelContext) -> None:
    """And what was loaded before stays."""
    admission = ReducerAdmission(kernel_for)
    before = admission.load(context, SIGNED)
    good = admission.snapshot(CHANNEL)
    other = wat.context_of(wat.scripted(Limits()), ChannelId(b"\x77" * 32))
    stranger = ReducerAdmission(kernel_for)
    stranger.load(other, SIGNED)
    for bad in (
        BaseSnapshot(3, good.state_root, good.data[:-1]),
        BaseSnapshot(3, bytes(32), good.data),
        stranger.snapshot(other.channel_id),
    ):
        with pytest.raises(AdmissionError, match=r"channel 0xc4c4.*: the snapshot cannot be used: "):
            admission.load(context, [], bad)
    assert admission.try_batch(CHANNEL, 3, [], strict=False).state_root == before.state_root


def test_errors_name_channel_and_deployment(context: ChannelContext) -> None:
    admission = ReducerAdmission(kernel_for)
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
    with pytest.raises(AdmissionError, match=r"deployment 0x[0-9a-f]{64} is not known here: never deployed"):
        admission.load(foreign, [])

    def refuse(_: Deployment) -> NoReturn:
        raise ModuleRefused("a start function")

    with pytest.raises(AdmissionError, match="cannot run here: a start function"):
        ReducerAdmission(kernel_maker(refuse, track=False)).load(context, [])
    with pytest.raises(AdmissionError, match="cannot run here: the channel runs deployment"):
        ReducerAdmission(kernel_maker(lambda _: wat.scripted(Limits(rows_max=1)), track=False)).load(context, [])


def test_a_module_that_fails_when_the_channel_opens_is_reported() -> None:
    trap = '(func (export "scapp_reduce") (param i32 i32) (result i32) unreachable)'
    checked = check_module(wat.module(wat.MEMORY, wat.ALLOC, trap))
    admission = ReducerAdmission(kernel_maker(lambda _: checked, track=False))
    with pytest.raises(
        AdmissionError, match=r"supported entry 0 does not replay here \(fault: unreachable in function"
    ):
        admission.load(wat.context_of(checked), [[open_entry()]])


def test_unload_frees_and_load_builds_again(admission: ReducerAdmission, context: ChannelContext) -> None:
    admission.unload(CHANNEL)
    with pytest.raises(AdmissionError, match="is not loaded"):
        admission.commit(CHANNEL)
    assert admission.load(context, SIGNED).amounts == (30, 70)


def test_channels_run_side_by_side_and_keep_to_themselves() -> None:
    """Traps and imports of one thread never show in another's result."""
    checked = wat.scripted(Limits())
    admission = ReducerAdmission(kernel_for)

    def play(number: int) -> Admitted:
        channel = ChannelId(bytes([number]) * 32)
        context = wat.context_of(checked, channel)
        admission.load(context, [[open_entry()]])
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


def test_unloading_breaks_off_a_long_batch() -> None:
    """A stop does not wait for a reducer that takes its time; a thousand endless loops would."""
    checked = wat.scripted(Limits())
    admission = ReducerAdmission(kernel_for)
    admission.load(wat.context_of(checked, CHANNEL), [[open_entry()]])
    batch = [message(op(wat.LOOP), counter=number) for number in range(100_000)]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(admission.try_batch, CHANNEL, 1, batch, strict=False)
        while not admission._channels[CHANNEL].lock.locked():
            assert not running.done()
        admission.unload(CHANNEL)
        with pytest.raises(AdmissionError, match="interrupted"):
            running.result()
    admission.load(wat.context_of(checked, CHANNEL), [[open_entry()]])
    assert admission.try_batch(CHANNEL, 1, [message(put_score("x", 1))], strict=False).accepted == (0,)
