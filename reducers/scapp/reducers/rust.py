"""Rust reducers: the machine's own rustc compiles the SDK's crate and the reducer, without cargo.

Any rustc from 1.63 with the target wasm32-unknown-unknown does; the bytes of a module depend on which one, so
participants who compare hashes agree on a version. What ships with the repository is built by `RUST_VERSION`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from scapp.reducers import toolchain
from scapp.reducers.toolchain import MEMORY_BYTES_MAX, STACK_BYTES, ToolchainMissing

RUST_VERSION = "1.63.0"
TARGET = "wasm32-unknown-unknown"
HOW_TO_GET = f"`rustup target add {TARGET}`, or on Debian 12 `apt install rustc libstd-rust-dev-wasm32 lld`"
_FLAGS = (
    "--edition", "2021", "--target", TARGET, "-C", "opt-level=2", "-C", "panic=abort",
    "-C", "overflow-checks=on",  # wrong amounts are worse than a larger module
    "-C", "target-cpu=mvp", "-C", "target-feature=+bulk-memory,+mutable-globals,+nontrapping-fptoint,+sign-ext",
)  # fmt: skip
_LINK = (
    "-C", "lto=fat", "-C", "codegen-units=1", "-C", "strip=symbols", f"-Clink-arg=-zstack-size={STACK_BYTES}",
    "-Clink-arg=--stack-first", f"-Clink-arg=--max-memory={MEMORY_BYTES_MAX}",
)  # fmt: skip


def compiler(version: str | None = None) -> tuple[str, list[str]]:
    """A rustc that can build modules (SCAPP_RUSTC, else the first on PATH that has the target) and its linker flags.

    With `version`, only that one. Raises ToolchainMissing with the way to get it."""
    seen = []
    for rustc in _candidates():
        found, sysroot = _asked(rustc, "--version"), Path(_asked(rustc, "--print", "sysroot"))
        match = re.match(r"rustc (\S+)", found)
        seen.append(f"{match[1] if match else 'unknown'} ({rustc})")
        if not match or (version and match[1] != version) or not (sysroot / "lib/rustlib" / TARGET / "lib").is_dir():
            continue
        linker = _linker(sysroot)
        if linker:
            return rustc, linker
    wanted = f"rustc {version}" if version else "a rustc from 1.63"
    looked = f"; found without it, or without a linker: {', '.join(seen)}" if seen else ""
    raise ToolchainMissing(f"{wanted} with the target {TARGET} is needed{looked}: {HOW_TO_GET}")


def _candidates() -> list[str]:
    if chosen := os.environ.get("SCAPP_RUSTC"):
        return [chosen]
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/bin"]
    found = (shutil.which("rustc", path=folder) for folder in folders)
    return list(dict.fromkeys(path for path in found if path))


def _asked(rustc: str, *question: str) -> str:
    try:
        return subprocess.run([rustc, *question], capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _linker(sysroot: Path) -> list[str]:
    """Flags for the linker: rustc's own when it has one, else wasm-ld on PATH; empty when there is none."""
    if any(sysroot.glob("lib/rustlib/*/bin/rust-lld")):
        return ["-C", "linker-flavor=wasm-ld", "-C", "linker=rust-lld"]
    wasm_ld = shutil.which("wasm-ld")
    return ["-C", f"linker={wasm_ld}"] if wasm_ld else []


def build_rust(source: Path, out: Path, work: Path, *, version: str | None = None) -> None:
    """Compile a .rs reducer against the SDK's crate. Messages of panics name files without folders."""
    rustc, linker = compiler(version)
    sdk = toolchain.sdk_folder("rust", "src/lib.rs") / "src"
    crate = work / "libscapp.rlib"
    # The last one that fits wins, and the SDK may lie below the reducer's folder.
    remap = ["--remap-path-prefix", f"{source.parent}=.", "--remap-path-prefix", f"{sdk}=scapp"]
    library = [*remap, "--crate-type", "rlib", "--crate-name", "scapp", "lib.rs", "-o", str(crate)]
    toolchain.run([rustc, *_FLAGS, *library], "the scapp crate", folder=sdk)
    reducer = [*remap, "--crate-type", "cdylib", "--crate-name", "reducer", "--extern", f"scapp={crate}", source.name]
    command = [rustc, *_FLAGS, *_LINK, *linker, *reducer, "-o", str(out)]
    toolchain.run(command, source.name, folder=source.parent)
