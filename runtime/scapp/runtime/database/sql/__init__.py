"""The SQL texts, one statement a file; read once each."""

from __future__ import annotations

import functools
from pathlib import Path

_FOLDER = Path(__file__).parent


@functools.cache
def text(name: str, home: str = "scapp.") -> str:
    """The text of `name`.sql; `home` takes the place of the prefix where cursors stand."""
    return (_FOLDER / f"{name}.sql").read_text().replace("scapp.cursors", f"{home}cursors")


def migrations(folder: Path | None = None) -> dict[int, str]:
    """Texts by the version each one leads to, ascending; versions count from 1 without gaps."""
    files = sorted((folder or _FOLDER / "migrations").glob("*.sql"))
    found = {int(file.stem): file.read_text() for file in files}
    assert list(found) == list(range(1, len(found) + 1)), f"migration versions have gaps: {list(found)}"
    return found
