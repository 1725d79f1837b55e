"""Kernels within their bounds, and what is said about a channel that catches up."""

from __future__ import annotations

import logging

import pytest

from scapp.channels.types import ChannelId
from scapp.runtime import keeping
from scapp.runtime.changes import BatchChanges
from scapp.runtime.follow import Committed
from scapp.runtime.keeping import KernelBound, Progress


class Follower:
    """What the bound sees of a channel's follower."""

    def __init__(self, number: int, size: int | None) -> None:
        self.context = self
        self.channel_id = number.to_bytes(32, "big")
        self.kernel_bytes = size

    def release(self) -> None:
        self.kernel_bytes = None


def used(bound: KernelBound, *followers: Follower) -> None:
    for follower in followers:
        bound.used(follower)  # type: ignore[arg-type]


def loaded(followers: list[Follower]) -> list[int]:
    return [index for index, follower in enumerate(followers) if follower.kernel_bytes is not None]


def test_beyond_the_number_the_longest_unused_is_freed() -> None:
    followers = [Follower(number, 1) for number in range(4)]
    bound = KernelBound(3, 1_000)
    used(bound, *followers[:3], followers[0], followers[3])
    assert loaded(followers) == [0, 2, 3]
    assert bound.bytes == 3


def test_beyond_the_memory_the_longest_unused_are_freed() -> None:
    """A kernel that grew counts with its new size; the last one stays, however large."""
    followers = [Follower(number, 10) for number in range(4)]
    bound = KernelBound(100, 35)
    used(bound, *followers[:3])
    assert loaded(followers) == [0, 1, 2, 3]
    followers[2].kernel_bytes = 25
    used(bound, followers[2])
    assert loaded(followers) == [1, 2, 3]
    followers[3].kernel_bytes = 1_000
    used(bound, followers[3])
    assert loaded(followers) == [3]
    assert bound.bytes == 1_000


def test_a_kernel_that_was_freed_elsewhere_is_forgotten() -> None:
    """A channel that is closed, or halted, gives its memory back by itself."""
    follower = Follower(1, 10)
    bound = KernelBound(1, 10)
    used(bound, follower)
    follower.release()
    used(bound, follower)
    assert bound.bytes == 0


def commit(first: int, end: int) -> Committed:
    return Committed(ChannelId(bytes(32)), first, end, 1, BatchChanges())


def test_only_a_pass_of_several_commits_is_catching_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Position and rate are in the status at once, and in the log from time to time."""
    times = iter([100.0, 102.0, 104.0, 106.0])
    monkeypatch.setattr(keeping.time, "monotonic", lambda: next(times))
    caplog.set_level(logging.INFO)
    progress = Progress()
    channel = ChannelId(bytes(32))
    assert progress.text(channel, commit(10, 20)) == ""
    assert progress.text(channel, commit(20, 210)) == "catching up: sequence 210, 100 entries/s"
    assert progress.text(channel, commit(210, 410)) == "catching up: sequence 410, 100 entries/s"
    assert caplog.messages == []
    assert "610, 100 entries/s" in progress.text(channel, commit(410, 610))
    assert caplog.messages == [f"channel 0x{bytes(32).hex()}: catching up: sequence 610, 100 entries/s"]
