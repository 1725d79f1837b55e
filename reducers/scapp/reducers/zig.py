"""Zig and C reducers: both are compiled by the pinned Zig of the `ziglang` wheel, which brings clang and the linker."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
from pathlib import Path

from scapp.reducers import toolchain
from scapp.reducers.toolchain import EXPORTS, MEMORY_BYTES_MAX, STACK_BYTES, ToolchainMissing

ZIG_VERSION = "0.17.1"
_FEATURES = "mvp+bulk_memory+multivalue+mutable_globals+nontrapping_fptoint+sign_ext"
_FLAGS = (
    "-target", "wasm32-freestanding", f"-mcpu={_FEATURES}",
    "-O", "safe",  # overflow and bounds trap: wrong amounts are worse than a larger module
    "-fstrip", "-fno-entry", "-fsingle-threaded",
    "--stack", str(STACK_BYTES), f"--max-memory={MEMORY_BYTES_MAX}",
    *(f"--export={name}" for name in EXPORTS),
)  # fmt: skip
_QUICK = ("-fno-llvm", "-fno-lld")
_C_FLAGS = (
    "-std=gnu23", "-Xclang", "-fexperimental-max-bitint-width=256",  # u256 is a plain number
    "-Oz", "-ffreestanding", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers",
    "-fmacro-backtrace-limit=0",  # else Zig shows the number of skipped lines in place of the message
    # Overflow, also of unsigned numbers, lost bits and bad indexes call a handler of scapp.h, which says so and traps.
    "-fsanitize=undefined,unsigned-integer-overflow,implicit-integer-truncation",
    "-fsanitize-minimal-runtime", "-fno-sanitize-trap=all", "-fno-sanitize-recover=all",
)  # fmt: skip


def compiler() -> list[str]:
    """Command that starts the pinned Zig; raises ToolchainMissing with the way to get it."""
    spec = importlib.util.find_spec("ziglang")
    if spec is None or spec.origin is None:
        raise ToolchainMissing("the Zig compiler, which also compiles C, is not installed: pip install 'scapp[zig]'")
    program = Path(spec.origin).with_name("zig")
    found = _version(program)
    if found != ZIG_VERSION:
        raise ToolchainMissing(
            f"Zig {found or 'unknown'} is installed, {ZIG_VERSION} is needed: pip install 'scapp[zig]'"
        )
    return [str(program)]


@functools.cache
def _version(program: Path) -> str:
    """Asked once, because each save in `scapp dev` is a build."""
    try:
        return subprocess.run([program, "version"], capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def build_zig(source: Path, out: Path, work: Path, cache: Path | None, *, quick: bool = False) -> None:
    """Compile a .zig reducer; the SDK's entry file is the root of the module. `quick`: by Zig's own code generator and
    linker, in a fraction of the time, to a larger and slower module that does the same."""
    sdk = toolchain.sdk_folder("zig", "entry.zig")
    modules = ["--dep", "app", "--dep", "scapp", f"-Mroot={sdk / 'entry.zig'}", "--dep", "scapp", f"-Mapp={source}"]
    _run([*(_QUICK if quick else ()), *modules, f"-Mscapp={sdk / 'scapp.zig'}"], source, out, work, cache)


def build_c(source: Path, out: Path, work: Path, cache: Path | None) -> None:
    """Compile a .c reducer, which includes scapp.h."""
    sdk = toolchain.sdk_folder("c", "scapp.h")
    _run(["-I", str(sdk), "-cflags", *_C_FLAGS, "--", str(source)], source, out, work, cache)


def _run(inputs: list[str], source: Path, out: Path, work: Path, cache: Path | None) -> None:
    caches = ["--cache-dir", str((cache or work) / "local")]
    if cache is not None:
        caches += ["--global-cache-dir", str(cache / "global")]
    command = [*compiler(), "build-exe", *_FLAGS, *caches, f"-femit-bin={out}", *inputs]
    toolchain.run(command, source.name, folder=work)
