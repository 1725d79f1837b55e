"""What axe-core finds in a page that is open in Chromium, and what it does not measure: contrast of marks and edges."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, ViewportSize

from scapp.reducers import nodejs

HERE = Path(__file__).parent
TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
DESK: ViewportSize = {"width": 1180, "height": 760}
PHONE: ViewportSize = {"width": 320, "height": 640}
"""As narrow as WCAG 1.4.10 asks for."""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

RUN = """async ({ options, unsure }) => {
    await Promise.allSettled(document.getAnimations().map(animation => animation.finished));
    const { violations, incomplete } = await axe.run(options);
    const found = unsure ? [...violations, ...incomplete] : violations;
    return found.flatMap(({ id, nodes }) => nodes.map(({ html, any, all, none }) =>
        [id, html, ...[...any, ...all, ...none].map(({ message }) => message)].join(" | ")));
}"""
STRUCTURE = {
    "options": {"runOnly": TAGS, "rules": {"color-contrast": {"enabled": False}}},
    "unsure": False,
}
CONTRAST = {
    "options": {
        "runOnly": {"type": "rule", "values": ["color-contrast"]},
        "checks": {"color-contrast": {"options": {"ignoreLength": True, "ignoreUnicode": False}}},
    },
    "unsure": True,
}
"""Also of single characters and signs; a contrast that axe-core cannot tell is a complaint."""

LAY_OPEN = """end => {
    const all = [...document.querySelectorAll("*")];
    document.body.style.minWidth = "60rem";
    for (const element of all) {
        const { backgroundImage, overflowY, position } = getComputedStyle(element);
        const stops = backgroundImage.match(/\\b(rgba?|color)\\([^)]*\\)/g);
        if (stops) element.style.background = stops.at(end);
        if (overflowY === "auto") element.style.maxHeight = "none";
        if (position === "sticky") element.style.position = "static";
    }
}"""
"""Nothing is scrolled away or covered, and each gradient is the colour at one end of it: 0 the first, -1 the last."""

PUT_BACK = "() => document.querySelectorAll('[style]').forEach(element => element.removeAttribute('style'))"
"""The page itself sets no `style` attributes: all that there are come from `LAY_OPEN`."""

MARKS = """marks => {
    const { Color, flattenColors, getContrast, getOwnBackgroundColor } = axe.commons.color;
    return Object.entries(marks).flatMap(([selector, property]) => {
        const places = [...document.querySelectorAll(selector)];
        if (!places.length) return [`there is no ${selector}`];
        return places.flatMap(place => {
            const mark = new Color();
            mark.parseString(getComputedStyle(place)[property].match(/\\b(rgba?|color)\\([^)]*\\)/)[0]);
            let ground = new Color(0, 0, 0, 0);
            for (let each = place; each; each = each.parentElement) {
                mark.alpha *= getComputedStyle(each).opacity;
                if (each !== place) ground = flattenColors(ground, getOwnBackgroundColor(getComputedStyle(each)));
            }
            const ratio = getContrast(ground, flattenColors(mark, ground));
            return ratio >= 3 ? [] : [`${property} of ${selector} has ${ratio.toFixed(2)} to 1`];
        });
    });
}"""


def axe_core() -> str:
    """Its text; skips the test, by name of what is missing, where npm's packages are not to be had."""
    try:
        modules = nodejs.install(HERE / "axe_node", HERE.parents[1] / "build" / "npm")
    except OSError as error:
        pytest.skip(f"no axe-core: {error}")
    return (modules / "axe-core" / "axe.min.js").read_text()


def complaints(page: Page, axe: str, marks: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with a view that stands still, in each colour scheme, on a desk and on a narrow phone.

    `marks`: CSS selectors of what must be told from its ground without words (WCAG 1.4.11: 3 to 1), and the property
    that has the colour. The page's policy keeps foreign scripts out; what the debugger evaluates is none."""
    page.evaluate(axe)
    found: list[str] = []
    for size in (PHONE, DESK):
        page.set_viewport_size(size)
        lines = page.evaluate(RUN, STRUCTURE)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            lines.append("wider than the screen")
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            for end in (0, -1):
                page.evaluate(LAY_OPEN, end)
                try:
                    bad = [*page.evaluate(RUN, CONTRAST), *page.evaluate(MARKS, dict(marks or {}))]
                finally:
                    page.evaluate(PUT_BACK)
                lines += [f"{scheme}: {line}" for line in bad]
        found += [f"{size['width']} wide, {line}" for line in dict.fromkeys(lines)]
    return found
