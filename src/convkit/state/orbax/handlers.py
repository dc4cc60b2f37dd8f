"""Recognises the handler that wrote an item by its class's name alone: its module changes from release to release.

Source: orbax-checkpoint 0.12.8, ``_src/handlers/*_checkpoint_handler.py`` (v0) and
``experimental/v1/_src/handlers/*_handler.py`` (v1).
"""

from __future__ import annotations

PYTREE, JSON, METRICS, PROTO, ARRAY, RANDOM_KEY, UNKNOWN = (
    "pytree", "json", "metrics", "proto", "array", "random-key", "unknown",
)  # fmt: skip

_KINDS = {
    "PyTreeCheckpointHandler": PYTREE,
    "StandardCheckpointHandler": PYTREE,
    "PyTreeHandler": PYTREE,
    "JsonCheckpointHandler": JSON,
    "JsonHandler": JSON,
    "MetricsHandler": METRICS,
    "ProtoCheckpointHandler": PROTO,
    "ProtoHandler": PROTO,
    "ArrayCheckpointHandler": ARRAY,
    "JaxRandomKeyCheckpointHandler": RANDOM_KEY,
    "NumpyRandomKeyCheckpointHandler": RANDOM_KEY,
}

_V0, _V1 = "orbax.checkpoint._src.handlers", "orbax.checkpoint.experimental.v1._src.handlers"
#: kind -> the handler's name in each API's current release; v1 has none for the other kinds
V0 = {
    PYTREE: f"{_V0}.standard_checkpoint_handler.StandardCheckpointHandler",
    JSON: f"{_V0}.json_checkpoint_handler.JsonCheckpointHandler",
    METRICS: f"{_V0}.json_checkpoint_handler.JsonCheckpointHandler",
    PROTO: f"{_V0}.proto_checkpoint_handler.ProtoCheckpointHandler",
    ARRAY: f"{_V0}.array_checkpoint_handler.ArrayCheckpointHandler",
    RANDOM_KEY: f"{_V0}.random_key_checkpoint_handler.JaxRandomKeyCheckpointHandler",
}
V1 = {
    PYTREE: f"{_V1}.pytree_handler.PyTreeHandler",
    JSON: f"{_V1}.json_handler.JsonHandler",
    METRICS: f"{_V1}.json_handler.MetricsHandler",
    PROTO: f"{_V1}.proto_handler.ProtoHandler",
}


def kind_of(typestr: str) -> str:
    """The kind of item that a handler writes; :data:`UNKNOWN` for a user's own handler."""
    return _KINDS.get(typestr.rpartition(".")[2], UNKNOWN)


def is_v1(typestr: str) -> bool:
    """Whether the handler is one of the v1 API."""
    return ".v1." in typestr
