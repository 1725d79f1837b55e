"""`scapp new`, `scapp build`, `scapp test`: from an idea to a tested module, without a node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scapp.runtime.cli.common import REFUSED, Problem, common, emit
from scapp.runtime.cli.given_module import built, read_module, source_file
from scapp.runtime.cli.stall_table import stall_text

if TYPE_CHECKING:
    from scapp.runtime.app_test import Report
    from scapp.runtime.module import CheckedModule

LANGUAGES = (
    "zig",
    "c",
    "rust",
    "assemblyscript",
)  # a test compares it with the build's, whose import would cost every `--help`


@click.command()
@common
@click.argument("name")
@click.option("--lang", "language", type=click.Choice(LANGUAGES), default="zig", show_default=True)
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Where to  [default: ./NAME]")
def new(name: str, language: str, folder: Path | None) -> None:
    """Make a new app NAME: a small reducer and a test that passes."""
    from scapp.reducers.scaffold import ScaffoldError, new_app

    folder = folder or Path(name)
    try:
        made = new_app(name, language, folder)
    except ScaffoldError as error:
        raise Problem(str(error), code="refused") from None
    lines = "\n".join(f"  {path}" for path in made)
    emit({"files": [str(path) for path in made]}, f"{lines}\n\nNext: scapp test {folder}")


@click.command()
@common
@click.argument("source", type=click.Path(path_type=Path), default=".")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Module to write  [default: beside the source]")
def build(source: Path, out: Path | None) -> None:
    """Compile a reducer: SOURCE is its file, or the folder with the one it is in."""
    file = source_file(source)
    out = out or file.with_suffix(".wasm")
    checked = built(file, out)
    digest, size = f"0x{checked.deployment.reducer.hex()}", out.stat().st_size
    document = {"module": str(out), "bytes": size, "keccak256": digest}
    emit(document, f"{out}  {size:,} bytes  {digest}\n\nNext: scapp test {source}, then scapp deploy {out}")


@click.command()
@common
@click.argument("app", type=click.Path(path_type=Path), default=".")
@click.argument("tests", type=click.Path(path_type=Path, exists=True), nargs=-1)
@click.option("--determinism", is_flag=True, help="Run what was accepted in every other way too, and demand one root")
@click.option("--stall", is_flag=True, help="Show what each would be paid if somebody stopped signing, at every moment")
def test(app: Path, tests: tuple[Path, ...], determinism: bool, stall: bool) -> int:
    """Build APP (a folder, a reducer's file, or a .wasm) and run its tests: TESTS, or tests/*.toml beside it.

    A .json file is the log of a real channel, written by `scapp log CHANNEL --json`: every turn must give what was
    signed. Messages without an accepted example are named at the end."""
    from scapp.runtime.app_document import BadTest, load_test
    from scapp.runtime.app_log import load_log, run_log
    from scapp.runtime.app_test import run_test

    file = app if app.suffix == ".wasm" else source_file(app)
    checked = read_module(file) if file.suffix == ".wasm" else built(file, file.with_suffix(".wasm"))
    chosen = list(tests) or sorted((file.parent / "tests").glob("*.toml"))
    if not chosen:
        raise Problem(f"no tests: {file.parent / 'tests'} has no .toml file", code="not_found", hint="name some")
    reports: dict[str, Report] = {}
    for path in chosen:
        try:
            if path.suffix == ".json":
                reports[path.name] = run_log(checked, load_log(path), determinism=determinism)
            else:
                reports[path.name] = run_test(checked, load_test(path), determinism=determinism)
        except BadTest as error:
            raise Problem(str(error), code="refused", hint="docs/howto/test-a-reducer.md") from None
    missing = _uncovered(checked, reports)
    document: dict[str, Any] = {"tests": {n: r.failures for n, r in reports.items()}, "uncovered": missing}
    if stall:
        document["stalls"] = {name: report.stalls for name, report in reports.items()}
    if determinism:
        document["determinism"] = all(not report.failures for report in reports.values())
    emit(document, lambda: _text(reports, missing, determinism) + (stall_text(reports) if stall else ""))
    return REFUSED if any(report.failures for report in reports.values()) else 0


def _uncovered(checked: CheckedModule, reports: dict[str, Report]) -> list[str]:
    seen = {name for report in reports.values() for name in report.messages}
    return [message.name for message in checked.manifest.messages if message.name not in seen]


def _text(reports: dict[str, Report], missing: list[str], determinism: bool) -> str:
    lines = []
    for name, report in reports.items():
        proved = ", the same in every way" if determinism and not report.failures else ""
        lines.append(f"{'FAILED' if report.failures else 'ok    '}  {name}  {report.steps} steps{proved}")
        lines += [f"  {failure}" for failure in report.failures]
    covered = "every message was accepted at least once" if not missing else f"never accepted: {', '.join(missing)}"
    return "\n".join([*lines, covered])
