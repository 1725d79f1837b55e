"""Building reducers: the same bytes anywhere, the kept artifacts up to date, and errors that say what to do."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from scapp.reducers import assemblyscript, build, nodejs, rust, toolchain, zig

ROOT = Path(__file__).parents[2]
pytest.importorskip("ziglang", reason="the Zig compiler is not installed: pip install 'scapp[zig]'")

TINY = """
const scapp = @import("scapp");
pub const name = "tiny";
pub const version = "1";
const Row = struct {
    id: i64,
    pub const table = .{ .name = "row", .key = 1 };
};
pub const db = scapp.Database(.{Row});
pub const Message = union(enum) { add };
pub fn open(_: *const scapp.Context, _: scapp.Opening(scapp.NoParams)) scapp.Rejection!void {}
pub fn message(ctx: *const scapp.Context, _: Message) scapp.Rejection!void {
    _ = db.put(Row{ .id = @intCast(ctx.sequence) });
}
"""


def _skip_optional(source: Path, missing: build.ToolchainMissing) -> None:
    """Zig and C come with the development environment: without them, or in another version, something is wrong."""
    if build.language_of(source) not in build.OPTIONAL:
        raise missing
    pytest.skip(str(missing))


def move_sdk(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The SDKs are found in a folder of their own."""
    for each in build.LANGUAGES.values():
        shutil.copytree(ROOT / "reducers" / each / "sdk", folder / each)
    monkeypatch.setattr(toolchain, "sdk_folder", lambda name, _: folder / name)


# One in each language; `make check-artifacts` builds all of them in a copy of the tree, with empty caches.
LEDGERS = [pair for pair in build.SHIPPED if "ledger" in pair[0]]


@pytest.mark.parametrize(
    ("source", "artifact"),
    [pytest.param(*pair, marks=() if pair[0].endswith(".zig") else pytest.mark.slow) for pair in LEDGERS],
)
def test_the_kept_artifacts_are_what_their_sources_build_to(
    source: str, artifact: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sources and SDK copied to other folders, local caches empty: byte for byte the kept module, without any path."""
    move_sdk(monkeypatch, tmp_path / "moved")
    copied = tmp_path / "elsewhere" / Path(source).name
    copied.parent.mkdir()
    shutil.copy(ROOT / source, copied)
    out = tmp_path / "out.wasm"
    try:
        build.build_reducer(copied, out, pinned=True)
    except build.ToolchainMissing as error:
        _skip_optional(copied, error)
    assert out.read_bytes() == (ROOT / artifact).read_bytes()
    for path in (ROOT, tmp_path, Path(build.__file__).parent):
        assert str(path).encode() not in out.read_bytes()
    assert b".zig" not in out.read_bytes()
    assert b"producers" not in out.read_bytes()


def test_the_zig_package_has_the_flags_of_the_build() -> None:
    """`addReducer` of its build.zig, whose own compilation takes minutes."""
    package = (ROOT / "reducers" / "zig" / "sdk" / "build.zig").read_text()
    features = package.partition("featureSet(&.{")[2].partition("}")[0]
    assert set(re.findall(r"\.(\w+)", features)) == set(zig._FEATURES.split("+")[1:])
    for flag in (f".stack_size = {toolchain.STACK_BYTES:_}", f".max_memory = {toolchain.MEMORY_BYTES_MAX:_}"):
        assert f"reducer{flag};" in package
    exports = package.partition("export_symbol_names = &.{")[2].partition("}")[0]
    assert tuple(re.findall(r'"(\w+)"', exports)) == toolchain.EXPORTS


@pytest.mark.slow
@pytest.mark.parametrize(("source", "artifact"), LEDGERS[:2])
def test_empty_global_caches_and_a_moved_sdk_change_nothing(
    source: str, artifact: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other compilers keep none."""
    move_sdk(monkeypatch, tmp_path / "moved")
    build.build_reducer(ROOT / source, tmp_path / "out.wasm", cache=tmp_path / "cache", pinned=True)
    assert (tmp_path / "out.wasm").read_bytes() == (ROOT / artifact).read_bytes()


def test_a_failed_build_says_why_and_keeps_the_old_module(tmp_path: Path) -> None:
    source, out = tmp_path / "bad.zig", tmp_path / "bad.wasm"
    out.write_bytes(b"old")
    source.write_text(TINY.replace("i64,", "u7,"))
    with pytest.raises(build.BuildError, match=r"(?s)bad.zig does not compile:.*no column type for u7: allowed"):
        build.build_reducer(source, out)
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.wasm", "bad.zig"]


TINY_C = """
#include "scapp.h"
SCAPP_TABLE(score, KEY((text, who)), (i64, points))
SCAPP_PARAMS()
SCAPP_MESSAGE(add, (text, who))
static scapp_result on_open(const scapp_context *, const scapp_opening *) { return SCAPP_OK; }
static scapp_result on_add(const scapp_context *, const add_message *m) {
    score_put((score){ m->who, 1 });
    return SCAPP_OK; }
SCAPP_APP("tiny", "1", TABLES(score), INDEXES(), VIEWS(), MESSAGES(add))
"""


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("(i64, points)", "(u32, points)", "no column type for u32: allowed are bool, i16"),
        ("TABLES(score)", "TABLES()", "score_must_be_listed_in_SCAPP_APP"),
        ("m->who, 1", "1, m->who", "error"),
        ("return SCAPP_OK; }\nSCAPP_APP", 'scapp_reject("no"); return SCAPP_OK; }\nSCAPP_APP', "nodiscard"),
    ],
)
def test_mistakes_in_c_are_compile_errors(old: str, new: str, reason: str, tmp_path: Path) -> None:
    """A type without a column, a table that is not listed, values in the wrong order, a rejection thrown away."""
    source = tmp_path / "tiny.c"
    source.write_text(TINY_C)
    build.build_reducer(source, tmp_path / "tiny.wasm")
    assert old in TINY_C
    source.write_text(TINY_C.replace(old, new))
    with pytest.raises(build.BuildError, match=f"(?s)tiny.c does not compile:.*{reason}"):
        build.build_reducer(source, tmp_path / "tiny.wasm")


def test_the_command_builds_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "tiny.zig"
    source.write_text(TINY)
    assert build.main([str(source)]) == 0
    assert str(tmp_path / "tiny.wasm") in capsys.readouterr().out
    assert (tmp_path / "tiny.wasm").read_bytes()[:4] == b"\0asm"
    assert build.main([str(tmp_path / "none.zig")]) == 1
    assert "no such file" in capsys.readouterr().err


def test_a_missing_or_other_compiler_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zig, "ZIG_VERSION", "9.9.9")
    with pytest.raises(
        build.BuildError, match=r"Zig 0\.17\.1 is installed, 9\.9\.9 is needed: pip install 'scapp\[zig\]'"
    ):
        zig.compiler()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(build.BuildError, match=r"not installed: pip install 'scapp\[zig\]'"):
        zig.compiler()


def test_a_rustc_that_cannot_build_modules_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No rustc at all, and one without the target."""
    monkeypatch.setenv("SCAPP_RUSTC", str(tmp_path / "none"))
    with pytest.raises(
        build.ToolchainMissing, match=r"a rustc from 1\.63 with the target .* is needed; .*rustup target"
    ):
        rust.compiler()
    fake = tmp_path / "rustc"
    fake.write_text(f'#!/bin/sh\ntest "$1" = --version && echo "rustc 1.80.0 (x)" || echo {tmp_path}\n')
    fake.chmod(0o755)
    monkeypatch.setenv("SCAPP_RUSTC", str(fake))
    with pytest.raises(build.ToolchainMissing, match=r"rustc 1\.63\.0 .* found without it.*: 1\.80\.0 \("):
        rust.compiler("1.63.0")


def no_node() -> tuple[Path, list[str]]:
    raise OSError("there is no Node")


def test_a_node_that_is_too_old_or_an_npm_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the remedy; a failed install leaves nothing that would pass for one."""
    program = tmp_path / "node"
    program.write_text("#!/bin/sh\necho v18.1.0\n")
    program.chmod(0o755)
    monkeypatch.setattr(nodejs, "find_node", lambda: (program, ["/bin/false"]))
    with pytest.raises(build.ToolchainMissing, match=r"is Node 18, 20 or later is needed: .*scapp\[assemblyscript\]"):
        assemblyscript.compiler()
    (tmp_path / "package").mkdir()
    for name in ("package.json", "package-lock.json"):
        (tmp_path / "package" / name).write_text("{}")
    monkeypatch.setattr(nodejs, "find_node", lambda: (program, ["/bin/sh", "-c", "echo no route >&2; exit 1"]))
    for _ in range(2):
        with pytest.raises(OSError, match=r"npm could not install package: no route"):
            nodejs.install(tmp_path / "package", tmp_path / "cache")


def test_what_has_no_compiler_here_is_skipped_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check says what it did not rebuild, and fails for what it rebuilt to other bytes."""
    monkeypatch.setenv("SCAPP_RUSTC", str(tmp_path / "none"))
    monkeypatch.setattr(nodejs, "find_node", no_node)
    monkeypatch.setattr(build, "SHIPPED", LEDGERS[2:])
    assert build.main(["--check"]) == 0
    out = capsys.readouterr().out
    assert "tests/golden/ledger-rust.wasm not rebuilt: rustc 1.63.0 with the target" in out
    assert (
        "tests/golden/ledger-assemblyscript.wasm not rebuilt: the AssemblyScript compiler is not here: there is no"
        in out
    )
    (tmp_path / "tiny.c").write_text(TINY_C)
    monkeypatch.setattr(build, "SHIPPED", [(str(tmp_path / "tiny.c"), "tests/golden/conformance.wasm")])
    assert build.main(["--check"]) == 1
    assert "is not what its source builds to" in capsys.readouterr().err


def test_a_missing_sdk_and_an_unknown_language_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(toolchain, "REPOSITORY", tmp_path)
    monkeypatch.setattr(toolchain, "HERE", tmp_path)
    with pytest.raises(build.BuildError, match="zig SDK not found"):
        toolchain.sdk_folder("zig", "entry.zig")
    (tmp_path / "app.py").write_text("")
    with pytest.raises(
        build.BuildError, match=r"app\.py is in no language known here: files end in \.zig, \.c, \.rs, \.ts"
    ):
        build.build_reducer(tmp_path / "app.py", tmp_path / "out.wasm")
