"""Web pages of apps, served by the node itself under /app/NAME/; `server.py` checks Host and Origin before.

Files need no token: they hold none, and what they ask of the API afterwards does. The policy sent along lets a page
load from this node only, so that what it knows (the token among it) has nowhere to go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from scapp.channels.errors import LocalError
from scapp.runtime.api.errors import ApiError

LIBRARY = "scapp"
"""The name under which the node's own modules for pages are found."""
_PART = re.compile(r"[\w-][\w.-]*")
_RUNTIME = Path(__file__).parent.parent
_KERNEL = "kernel.wasm"
MEDIA = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
        "img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked again each time, and answered with 304 while nothing changed
}


class Pages:
    """`mounts`: name to folder. Raises LocalError when one is not a folder."""

    def __init__(self, mounts: Mapping[str, str]) -> None:
        self._folders = {name: Path(folder).expanduser().resolve() for name, folder in mounts.items()}
        for name, folder in self._folders.items():
            if not folder.is_dir():
                raise LocalError(f"web.{name} = {str(folder)!r} is not a folder that can be read")
        self._folders[LIBRARY] = _RUNTIME / "web"

    def __bool__(self) -> bool:
        """Whether there is a page at all."""
        return len(self._folders) > 1

    def add_to(self, app: web.Application) -> None:
        """The routes, where there are pages."""
        if self:
            app.router.add_get("/app/{name}", self._with_slash)
            app.router.add_get("/app/{name}/{file:.*}", self._file)

    async def _with_slash(self, request: web.Request) -> web.StreamResponse:
        """Relative addresses in a page need it; the browser keeps the fragment."""
        return web.Response(status=308, headers={"Location": f"/app/{self._known(request)}/"})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name, file = self._known(request), request.match_info["file"] or "index.html"
        if (name, file) == (LIBRARY, _KERNEL):
            return _answer(_RUNTIME / "native" / _KERNEL)
        return _answer(self.find(name, file))

    def _known(self, request: web.Request) -> str:
        name = request.match_info["name"]
        if name not in self._folders:
            raise ApiError("not_found", f"no page {name[:80]!r}", "[web] in scapp.toml lists the node's pages")
        return name

    def find(self, name: str, file: str) -> Path:
        """A file that may be seen: of a known kind, not hidden, and inside the folder also when it is a link."""
        folder = self._folders[name]
        parts = file.split("/")
        plain = len(file) < 200 and all(map(_PART.fullmatch, parts))
        if plain and Path(file).suffix in MEDIA:
            path = folder.joinpath(*parts).resolve()
            if path.is_relative_to(folder) and path.is_file():
                return path
        raise ApiError("not_found", f"no file {file[:200]!r} in page {name}")


def _answer(path: Path) -> web.FileResponse:
    return web.FileResponse(path, headers={"Content-Type": MEDIA[path.suffix], **HEADERS})
