"""The part of the Python client that is about derived tables; `client.Client` has it all."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from typing import Any

from scapp.runtime.client_calls import Calls, quoted
from scapp.runtime.derived_documents import ProjectionList, ProjectionView, ReplayAnswer
from scapp.runtime.documents import VerifyAnswer
from scapp.runtime.proof_format import ProofDocument


class DerivedCalls(Calls):
    """Methods over the calls."""

    def verify(self, channel: str, timeout_s: float = 3_600.0) -> VerifyAnswer:
        """Compare the database's rows with the co-signed root."""
        return self._post(f"/v1/channels/{quoted(channel)}/verify", VerifyAnswer, {}, timeout_s)

    def prove(
        self, channel: str, table: str, key: Sequence[Any], turn: int | None = None, timeout_s: float = 3_600.0
    ) -> ProofDocument:
        """Proof that the row of this key is, or is not, in the co-signed tables; the log is run for it first."""
        body = {"table": table, "key": list(key), "turn": turn}
        return self._post(f"/v1/channels/{quoted(channel)}/prove", ProofDocument, body, timeout_s)

    def replay(
        self,
        channel: str,
        *,
        compare: bool = False,
        then: str = "keep",
        abandon: bool = False,
        timeout_s: float = 86_400.0,
    ) -> ReplayAnswer:
        """Derive a channel again into a schema of its own; `then` is keep, swap or drop. Asking again goes on."""
        body = {"compare": compare, "then": then, "abandon": abandon}
        return self._post(f"/v1/channels/{quoted(channel)}/replay", ReplayAnswer, body, timeout_s)

    def projections(self) -> list[ProjectionView]:
        return self._get("/v1/projections", ProjectionList).projections

    def projection(self, name: str) -> ProjectionView:
        return self._get(f"/v1/projections/{quoted(name)}", ProjectionView)

    def add_projection(self, name: str, app: str, wasm: bytes) -> ProjectionView:
        """Derive a module of one's own over all channels of an app."""
        query = urllib.parse.urlencode({"name": name, "app": app})
        return self._call("POST", f"/v1/projections?{query}", ProjectionView, wasm, "application/wasm")

    def upgrade_projection(self, name: str, wasm: bytes) -> ProjectionView:
        """Derive another module beside it, which takes over once it has caught up."""
        path = f"/v1/projections/{quoted(name)}/upgrade"
        return self._call("POST", path, ProjectionView, wasm, "application/wasm")

    def remove_projection(self, name: str) -> list[ProjectionView]:
        """Stop it and drop its tables; those that are left."""
        return self._post(f"/v1/projections/{quoted(name)}/remove", ProjectionList, {}).projections
