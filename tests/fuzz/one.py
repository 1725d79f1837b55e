"""`python -m tests.fuzz.one NAME INPUTS FIRST FOUND ENGINE`: one decoder in a process of its own (see `__main__.py`).

A finding (an error that is not documented, a hang, memory without end) ends the process with the input in the folder
FOUND. `plain` tries the mutator's inputs FIRST, FIRST + 1 …; `atheris` lets libFuzzer follow coverage, from seed FIRST.
"""

from __future__ import annotations

import hashlib
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

CORPUS = Path(__file__).parent / "corpus"
MEMORY_MB = 2048
WALL_FACTOR = 12
"""So many times its limit of processor time may an input take by the clock: other processes want the machine too."""


class Hung(BaseException):
    """An input took too long. No decoder catches it by accident."""


def main(name: str, count: int, first: int, found: Path, engine: str) -> None:
    found.mkdir(parents=True, exist_ok=True)
    if engine == "atheris":
        _atheris(name, count, first, found)
    _plain(name, count, first, found)


def corpus(name: str) -> list[bytes]:
    """Inputs that once were findings of this decoder."""
    folder = CORPUS / name
    return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []


def _plain(name: str, count: int, first: int, found: Path) -> None:
    from tests.fuzz.mutate import inputs
    from tests.fuzz.targets import checked, targets

    target = next(target for target in targets() if target.name == name)
    decode, seeds = target.make()
    call = _limited(checked(target, decode), target.seconds)

    def waits(*_: object) -> NoReturn:
        raise Hung(f"{name}: an input took more than {target.seconds * WALL_FACTOR} s by the clock")

    signal.signal(signal.SIGALRM, waits)
    # Data only: engines reserve large ranges of addresses that they never touch.
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MB << 20, resource.RLIM_INFINITY))
    for current in inputs([*seeds, *corpus(name)], count, first, target.bytes_max):
        signal.alarm(target.seconds * WALL_FACTOR)
        try:
            call(current)
        except BaseException:
            _keep(found, name, current)
            raise
        finally:
            signal.alarm(0)


def _limited(call: Callable[[bytes], None], seconds: int) -> Callable[[bytes], None]:
    """The call, which raises Hung once it has taken so much of the processor's time. That of the clock would blame an
    input for what else the machine does."""

    def works(*_: object) -> NoReturn:
        raise Hung(f"an input took more than {seconds} s of processor time")

    def limited(data: bytes) -> None:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            call(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    signal.signal(signal.SIGPROF, works)
    return limited


def _atheris(name: str, count: int, first: int, found: Path) -> NoReturn:
    import tempfile

    import atheris

    with atheris.instrument_imports(include=["scapp"]):
        from tests.fuzz.targets import checked, targets

        target = next(target for target in targets() if target.name == name)
        decode, seeds = target.make()
    call = _limited(checked(target, decode), target.seconds)
    folder = Path(tempfile.mkdtemp(prefix="scapp-fuzz-"))
    for number, data in enumerate([*seeds, *corpus(name)]):
        (folder / f"{number:04}").write_bytes(data)
    atheris.Setup(
        [
            sys.argv[0], str(folder), f"-runs={count}", f"-seed={first + 1}", f"-max_len={target.bytes_max}",
            f"-timeout={target.seconds * WALL_FACTOR}", f"-rss_limit_mb={MEMORY_MB}",
            f"-artifact_prefix={found}/{name}-", "-print_final_stats=1", "-verbosity=0",
        ],
        call,
    )  # fmt: skip
    atheris.Fuzz()
    raise AssertionError("libFuzzer ends the process")


def _keep(found: Path, name: str, data: bytes) -> None:
    (found / f"{name}-{hashlib.sha1(data).hexdigest()[:12]}").write_bytes(data)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
