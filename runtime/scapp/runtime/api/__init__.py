"""The node's local HTTP API; its documents are `scapp.runtime.documents`, its client `scapp.runtime.client`.

`routes` says what there is, `handlers_*` do it, `server` serves it, `openapi` describes it, `stream` follows it.
"""
