"""The reference pages list what there is: commands, exit codes, paths, error codes, settings."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from scapp.runtime.api.errors import STATUS_OF_CODE
from scapp.runtime.api.routes import ROUTES
from scapp.runtime.api.stream import KINDS
from scapp.runtime.cli import common
from scapp.runtime.cli.main import COMMANDS, scapp
from scapp.runtime.config import known_settings

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text()


def test_every_command_and_exit_code_is_in_the_reference() -> None:
    """Sub-commands too; the codes are those of the module that uses them."""
    text = page("cli.md")
    context = click.Context(scapp)
    for name in COMMANDS:
        assert f"`{name}" in text, name
        command = scapp.get_command(context, name)
        if isinstance(command, click.Group):
            for each in command.commands:
                assert re.search(rf"`{name}[^|]*\b{each}\b", text), f"{name} {each}"
    codes = {value for name, value in vars(common).items() if name.isupper() and isinstance(value, int)}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.M)} == codes


def test_every_path_and_error_code_is_in_the_reference() -> None:
    """Each error code stands behind its own status."""
    text = page("http-api.md")
    for route in ROUTES:
        shown = route.path
        if shown.startswith("/v1/channels/"):
            shown = shown.replace("{channel}/reject", "{channel}/accept").replace("{channel}/close", "{channel}/accept")
        assert shown in text, route.path
    listed = {}
    for status, codes in re.findall(r"^\| (\d{3}) \| (.*) \|$", text, re.M):
        listed |= {code: int(status) for code in re.findall(r"`(\w+)`", codes)}
    assert listed == STATUS_OF_CODE
    for kind in (*KINDS, "reset"):
        assert f"| `{kind}` |" in text


@pytest.mark.parametrize("setting", known_settings())
def test_every_setting_is_in_the_reference(setting: str) -> None:
    assert f"| `{setting}` |" in page("configuration.md")
