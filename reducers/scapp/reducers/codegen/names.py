"""Names of a manifest as names of a programming language: injective, whatever the manifest chose.

Manifest names are `[a-z][a-z0-9_]*` (docs/reference/manifest.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable


def type_names(names: Iterable[str]) -> dict[str, str]:
    """CamelCase for each name; names that would be equal then keep their underscores (`a_1` is `A_1`, `a1` is `A1`)."""
    known = list(dict.fromkeys(names))
    camel = {name: "".join(map(_capital, name.split("_"))) for name in known}
    taken = Counter(camel.values())
    return {
        name: short if taken[short] == 1 else "_".join(map(_capital, name.split("_"))) for name, short in camel.items()
    }


def value_names(names: Iterable[str], reserved: Collection[str]) -> dict[str, str]:
    """Each name, with as many underscores behind it as it takes to be neither reserved nor another one's."""
    known = list(dict.fromkeys(names))
    found: dict[str, str] = {}
    for name in known:
        free = name
        while free in reserved or (free != name and free in known) or free in found.values():
            free += "_"
        found[name] = free
    return found


def _capital(part: str) -> str:
    return part[:1].upper() + part[1:]
