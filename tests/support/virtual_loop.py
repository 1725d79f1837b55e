"""An asyncio event loop for simulations: one thread, no clock of its own, and the same order of steps every time.

Time stands still while anything can run and then jumps to the next timer. What would run in a worker thread runs on the
loop, one step later. There are no sockets: whoever waits for one waits for ever, and `run` says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Stuck(AssertionError):
    """Nothing can run, and no timer is set: whoever waits waits for ever."""


class _Clock:
    """Stands where a loop has its selector: instead of waiting for a socket it moves the loop's time."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck("nothing can run any more")
        self.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """`faults` are errors that nobody has taken."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self._clock = _Clock()  # what BaseEventLoop waits with
        self.faults: list[BaseException | str] = []
        self.set_exception_handler(
            lambda _, context: self.faults.append(context.get("exception") or context["message"])
        )

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._clock.now_s

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """There is no other thread to wake this one for."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """On the loop itself, a step later."""
        done: asyncio.Future[Any] = self.create_future()
        self.call_soon(_call, done, func, args)
        return done


def _call(done: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if done.cancelled():
        return
    try:
        result = func(*args)
    except StopIteration as error:
        done.set_exception(RuntimeError(repr(error)))
    except Exception as error:
        done.set_exception(error)
    else:
        done.set_result(result)


def run(story: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Play a story on a loop of its own; what it has left behind is cancelled."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(story(loop))
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()
