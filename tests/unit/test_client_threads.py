"""Clients in several threads, in a process of its own, because what is tested here would end it."""

from __future__ import annotations

import subprocess
import sys

TWO_READ_ONE_KIND = """
import threading
import msgspec
from scapp.runtime.client_answers import decoded

reached, go = threading.Event(), threading.Event()

def slowly():
    reached.set()
    assert go.wait(20)
    return int

class Inner(msgspec.Struct):
    value: "slowly()"

class Outer(msgspec.Struct):
    inner: Inner
    last: int

found = []
reading = lambda: found.append(decoded(b'{"last": 1, "inner": {"value": 2}}', Outer))
threads = [threading.Thread(target=reading) for _ in range(2)]
threads[0].start()
assert reached.wait(20)
threads[1].start()
threads[1].join(0.1)
go.set()
for thread in threads:
    thread.join()
assert found == [Outer(Inner(2), 1)] * 2, found
"""


def test_two_threads_may_be_the_first_to_read_a_kind_of_answer() -> None:
    """The second asks while the first is making the decoder: it used to find a type half made, and the process died."""
    done = subprocess.run([sys.executable, "-c", TWO_READ_ONE_KIND], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
