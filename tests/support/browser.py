"""Real Chromium for tests of pages: Playwright's driver over the browser that this machine has."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from scapp.runtime.cli.page import page_address
from tests.support.cluster import Cluster, cluster

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE_MS = 60_000
SHOTS = os.environ.get("SCAPP_SCREENSHOTS")


def chromium_path() -> str:
    """Where it is; skips the test, by name of what is missing, when it is not."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium on PATH (`make browser` installs it)")
    return found


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    path = chromium_path()
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to run as root with one
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS, *sandbox])
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """One player's page. `problems` gathers what the page's console and scripts complain of: it must stay empty."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.problems: list[str] = []
        self.address = address
        self.page: Page = self.context.new_page()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_selector(".lobby")

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")

    def go(self, hash_: str) -> None:
        """Another view of the page, without loading it again."""
        self.page.evaluate("hash => { location.hash = hash }", hash_)

    def choose(self, card: int) -> None:
        """Hide a card, as a person does."""
        self.page.locator("fieldset:not(:disabled) > .pickable").filter(has_text=str(card)).first.click()
        self.page.get_by_role("button", name="Play hidden").click()

    def heading(self, text: str) -> None:
        """Wait until the table says this."""
        self.page.get_by_role("heading", level=1, name=text).wait_for()

    def shot(self, name: str) -> None:
        """A picture for the documentation, when they are made."""
        if SHOTS:
            self.page.screenshot(path=Path(SHOTS) / f"{name}.png")


@contextlib.contextmanager
def page_cluster(count: int, *, introduced: bool = True) -> Iterator[Cluster]:
    """Nodes that serve the game's page and ask before they accept a match."""
    from scapp.game import wasm_bytes, web_folder

    settings = f'\n[policy]\naccept = "none"\n\n[web]\ngoofspiel = "{web_folder()}"\n'
    with cluster(count, settings, introduced=introduced) as found:
        found.deploy(wasm_bytes())
        yield found


def address_of(nodes: Cluster, name: str, *, watch: bool = False, funds: bool = False) -> str:
    """What `scapp page` would open."""
    child = nodes.nodes[name]
    file = child.file()
    assert file is not None
    return page_address(child.home, file.api, "goofspiel", watch=watch, funds=funds)
