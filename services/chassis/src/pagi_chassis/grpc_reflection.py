"""Server reflection, v1 and v1alpha, so that grpcurl and its like need no .proto files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

_V1 = "grpc.reflection.v1.ServerReflection"
_V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
_METHODS = {f"/{name}/ServerReflectionInfo" for name in (_V1, _V1ALPHA)}


class ReflectionHandler(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # no generic at run time
    """Answers reflection calls; the library is imported at the first one, since few processes ever see one.

    grpcio-reflection ships v1alpha only. The messages of v1 are the same on the wire
    (https://github.com/grpc/grpc/blob/master/doc/server-reflection.md), so one servicer answers both.
    """

    def __init__(self, service_names: Sequence[str]) -> None:
        self._names = [*service_names, "grpc.health.v1.Health", _V1, _V1ALPHA]
        self._handler: grpc.RpcMethodHandler[Any, Any] | None = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a reflection method; None for any other."""
        if handler_call_details.method not in _METHODS:
            return None
        if self._handler is None:
            from grpc_reflection.v1alpha import reflection, reflection_pb2

            servicer = reflection.aio.ReflectionServicer(self._names)  # type: ignore[attr-defined]
            self._handler = grpc.stream_stream_rpc_method_handler(
                servicer.ServerReflectionInfo,
                request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
                response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
            )
        return self._handler
