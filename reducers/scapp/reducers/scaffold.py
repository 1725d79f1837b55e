"""The files of a new app, from `templates/`: one reducer and one test, which passes as it stands."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from scapp.reducers.build import LANGUAGES

SUFFIXES = {language: suffix for suffix, language in LANGUAGES.items()}


class ScaffoldError(Exception):
    """The app cannot be made; the text says why and what is allowed."""


def new_app(name: str, language: str, folder: Path) -> list[Path]:
    """Write a new app into `folder`, which must not exist or be empty, and list its files. Raises ScaffoldError."""
    if not re.fullmatch("[a-z][a-z0-9_]{0,47}", name):
        raise ScaffoldError(f"app name {name!r}; allowed are 1-48 characters of [a-z][a-z0-9_]*")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ScaffoldError(f"{folder} exists already; name another app, or a --dir that is new or empty")
    templates = files("scapp.reducers") / "templates"
    suffix = SUFFIXES[language]
    texts = {
        folder / f"{name}{suffix}": (templates / f"app{suffix}").read_text().replace("NAME", name),
        folder / "tests" / "first.toml": (templates / "first.toml").read_text(),
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(texts)
