"""Typed clients generated from a manifest: rows, keys, decoders, and builders for the messages it describes.

A generated client has no dependencies. It takes rows as a node's API shows them and gives messages as the API takes
them, so it works with `scapp.runtime.client` and with anything else that speaks HTTP.
"""

from __future__ import annotations

from scapp.reducers.codegen.python import python_client
from scapp.reducers.codegen.typescript import typescript_client

GENERATORS = {"python": python_client, "typescript": typescript_client}
"""By language: manifest and reducer hash (`0x…`) to the text of one source file."""
