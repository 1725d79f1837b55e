"""The reducer that a command was given: a source file or its folder, a module, or an app that a node knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from scapp.runtime.cli.common import USAGE, Problem, settings, waiting

if TYPE_CHECKING:
    from scapp.channels.deployment import Limits
    from scapp.runtime.module import CheckedModule


def given_module(app: str, limits: Mapping[str, int] | None = None) -> CheckedModule:
    """What `app` names: an existing path first, else an app of the running node, which has its own limits.

    Raises Problem, ModuleRefused, or what the client raises."""
    path = Path(app)
    if path.exists() or path.suffix:
        chosen = _limits(limits or {})
        return read_module(path, chosen) if path.suffix == ".wasm" else _compiled(source_file(path), chosen)
    if limits:
        raise Problem(f"{app} is deployed, and so has its limits already", code="usage", exit_code=USAGE)
    with settings().client() as node:
        wasm, found = node.module(app)
    return _check(wasm, _limits(found))


def source_file(given: Path) -> Path:
    """The reducer file that is meant."""
    from scapp.reducers.build import LANGUAGES as ENDINGS

    if not given.is_dir():
        return given
    found = sorted(path for path in given.iterdir() if path.suffix in ENDINGS)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        hint = "`scapp new NAME` makes one" if not found else "name the file"
        raise Problem(f"{given} has {len(found)} reducer files ({names}); one is needed", code="not_found", hint=hint)
    return found[0]


def built(source: Path, out: Path, limits: Limits | None = None) -> CheckedModule:
    """Compile to `out` and check."""
    from scapp.reducers.build import build_reducer
    from scapp.reducers.toolchain import BuildError

    try:
        with waiting("compiling"):
            build_reducer(source, out)
    except BuildError as error:
        raise Problem(str(error), code="refused") from None
    return read_module(out, limits)


def read_module(wasm: Path, limits: Limits | None = None) -> CheckedModule:
    """Raises ModuleRefused, as `scapp deploy` would."""
    try:
        return _check(wasm.read_bytes(), limits)
    except FileNotFoundError:
        raise Problem(f"no file {wasm}", code="not_found", hint="name the built .wasm file") from None


def _compiled(source: Path, limits: Limits) -> CheckedModule:
    """Without writing a file beside the source."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="scapp-") as folder:
        return built(source, Path(folder) / "reducer.wasm", limits)


def _check(wasm: bytes, limits: Limits | None) -> CheckedModule:
    from scapp.runtime.module import check_module

    with waiting("checking the module"):
        return check_module(wasm, limits)


def _limits(given: Mapping[str, int]) -> Limits:
    from scapp.channels.deployment import Limits

    unknown = sorted(set(given) - set(Limits.__struct_fields__))
    if unknown:
        known = ", ".join(Limits.__struct_fields__)
        raise Problem(f"unknown limit {', '.join(unknown)}; known are {known}", code="usage", exit_code=USAGE)
    return Limits(**given)
