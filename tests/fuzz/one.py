"""`python -m tests.fuzz.one NAME INPUTS FIRST FOUND ENGINE`: one decoder in a process of its own (see `__main__.py`).

A finding (an error that is not documented, a hang, memory without end) ends the process with the input in the folder
FOUND. `plain` tries the mutator's inputs FIRST, FIRST + 1 …; `atheris` lets libFuzzer follow coverage, from seed FIRST.
"""

from __future__ import annotations

import hashlib
import resource
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

CORPUS = Path(__file__).parent / "corpus"
MEMORY_MB = 2048
HUNG = 77


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
    call = checked(target, decode)
    current = b""

    def hung(*_: Any) -> NoReturn:
        _keep(found, name, current)
        print(f"{name}: an input took more than {target.seconds} s", file=sys.stderr, flush=True)
        sys.exit(HUNG)

    signal.signal(signal.SIGALRM, hung)
    # Data only: engines reserve large ranges of addresses that they never touch.
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MB << 20, resource.RLIM_INFINITY))
    for current in inputs([*seeds, *corpus(name)], count, first, target.bytes_max):
        signal.alarm(target.seconds)
        try:
            call(current)
        except BaseException:
            _keep(found, name, current)
            raise
        finally:
            signal.alarm(0)


def _atheris(name: str, count: int, first: int, found: Path) -> NoReturn:
    import tempfile

    import atheris

    with atheris.instrument_imports(include=["scapp"]):
        from tests.fuzz.targets import checked, targets

        target = next(target for target in targets() if target.name == name)
        decode, seeds = target.make()
    call = checked(target, decode)
    folder = Path(tempfile.mkdtemp(prefix="scapp-fuzz-"))
    for number, data in enumerate([*seeds, *corpus(name)]):
        (folder / f"{number:04}").write_bytes(data)
    atheris.Setup(
        [
            sys.argv[0], str(folder), f"-runs={count}", f"-seed={first + 1}", f"-max_len={target.bytes_max}",
            f"-timeout={target.seconds}", f"-rss_limit_mb={MEMORY_MB}", f"-artifact_prefix={found}/{name}-",
            "-print_final_stats=1", "-verbosity=0",
        ],
        call,
    )  # fmt: skip
    atheris.Fuzz()
    raise AssertionError("libFuzzer ends the process")


def _keep(found: Path, name: str, data: bytes) -> None:
    (found / f"{name}-{hashlib.sha1(data).hexdigest()[:12]}").write_bytes(data)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
