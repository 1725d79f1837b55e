"""The API's proofs: a table and key in JSON to a document anybody can check."""

from __future__ import annotations

from scapp.channels.deployment import deployment_id
from scapp.channels.reading import EntrySource
from scapp.channels.types import ChannelId
from scapp.runtime.api.errors import ApiError
from scapp.runtime.deployments import App, DeploymentStore
from scapp.runtime.progress import Meters
from scapp.runtime.proof_documents import make_document
from scapp.runtime.proof_format import ProofDocument, ProveRequest
from scapp.runtime.prover import Prover
from scapp.runtime.row_json import key_from_json
from scapp.runtime.rows import TableCodec


class Proving:
    """Thread-safe; answers block."""

    def __init__(self, prover: Prover, source: EntrySource, apps: DeploymentStore, meters: Meters) -> None:
        self._prover = prover
        self._source = source
        self._apps = apps
        self._meters = meters

    def prove(self, channel_id: ChannelId, request: ProveRequest) -> ProofDocument:
        """Raises ApiError: refused, bad_request, unknown_app; and what `Prover.prove` raises."""
        context = self._source.context(channel_id)
        if context is None:
            raise ApiError("refused", f"channel 0x{channel_id.hex()} has no co-signed state yet")
        app = self._apps.get(deployment_id(context.deployment))
        if app is None:
            raise ApiError("unknown_app", "the channel's app is not deployed here", "`scapp deploy` its module")
        position = _position(app, request.table)
        table = app.manifest.tables[position]
        try:
            key = TableCodec(table).read_key(key_from_json(table, request.key))
        except ValueError as error:
            raise ApiError("bad_request", str(error)) from None
        with self._meters.running("prove", "0x" + channel_id.hex()) as meter:
            proved = self._prover.prove(context, position, key, request.turn, meter)
        return make_document(context.deployment, position, table, key, proved)


def _position(app: App, name: str) -> int:
    names = [table.name for table in app.manifest.tables]
    if name not in names:
        raise ApiError("bad_request", f"app {app.name} has no table {name[:80]!r}; it has {', '.join(names)}")
    return names.index(name)
