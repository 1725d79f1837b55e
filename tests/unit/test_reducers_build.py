"""Building reducers: the same bytes anywhere, the kept artifacts up to date, and errors that say what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scapp.reducers import build

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


@pytest.mark.parametrize(("source", "artifact"), build.SHIPPED)
def test_the_kept_artifacts_are_what_their_sources_build_to(source: str, artifact: str, tmp_path: Path) -> None:
    """Sources and SDK copied to another folder, local caches empty: byte for byte the kept module, without any path."""
    copied = tmp_path / "elsewhere" / Path(source).name
    copied.parent.mkdir()
    shutil.copy(ROOT / source, copied)
    out = tmp_path / "out.wasm"
    build.build_reducer(copied, out)
    assert out.read_bytes() == (ROOT / artifact).read_bytes()
    for path in (ROOT, tmp_path, Path(build.__file__).parent):
        assert str(path).encode() not in out.read_bytes()
    assert b".zig" not in out.read_bytes()
    assert b"producers" not in out.read_bytes()


def test_empty_global_caches_and_a_moved_sdk_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "reducers/zig/sdk", tmp_path / "moved")
    monkeypatch.setattr(build, "sdk_folder", lambda: tmp_path / "moved")
    source, artifact = build.SHIPPED[0]
    build.build_reducer(ROOT / source, tmp_path / "out.wasm", cache=tmp_path / "cache")
    assert (tmp_path / "out.wasm").read_bytes() == (ROOT / artifact).read_bytes()


def test_a_failed_build_says_why_and_keeps_the_old_module(tmp_path: Path) -> None:
    source, out = tmp_path / "bad.zig", tmp_path / "bad.wasm"
    out.write_bytes(b"old")
    source.write_text(TINY.replace("i64,", "u7,"))
    with pytest.raises(build.BuildError, match=r"(?s)bad.zig does not compile:.*no column type for u7: allowed"):
        build.build_reducer(source, out)
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.wasm", "bad.zig"]


def test_the_command_builds_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "tiny.zig"
    source.write_text(TINY)
    assert build.main([str(source)]) == 0
    assert str(tmp_path / "tiny.wasm") in capsys.readouterr().out
    assert (tmp_path / "tiny.wasm").read_bytes()[:4] == b"\0asm"
    assert build.main([str(tmp_path / "none.zig")]) == 1
    assert "no such file" in capsys.readouterr().err


def test_a_missing_or_other_compiler_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "ZIG_VERSION", "9.9.9")
    with pytest.raises(
        build.BuildError, match=r"Zig 0\.17\.1 is installed, 9\.9\.9 is needed: pip install 'scapp\[zig\]'"
    ):
        build.compiler()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(build.BuildError, match=r"not installed: pip install 'scapp\[zig\]'"):
        build.compiler()


def test_a_missing_sdk_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "_REPOSITORY", tmp_path)
    monkeypatch.setattr(build, "_HERE", tmp_path)
    with pytest.raises(build.BuildError, match="Zig SDK not found"):
        build.sdk_folder()
