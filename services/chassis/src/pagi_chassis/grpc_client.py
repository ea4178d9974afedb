"""A gRPC client: a deadline on every call, quick reconnection, typed errors, ids and trace passed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pagi_chassis import correlation, deadline, grpc_options, telemetry
from pagi_chassis.errors import DeadlineExceededError, UnavailableError
from pagi_chassis.tls import ClientTls

Request = TypeVar("Request")
Response = TypeVar("Response")

# A repeat waits this long, then twice as long, …: a restarted process is reached within its first second.
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5
_AWAY = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.CONNECTING)


class GrpcClient:
    """A connection to one address, shared by all calls.

    Args:
        address: `host:port`, or a gRPC name such as `dns:///memory:50052`, which balances over its addresses.
        tls: None: plaintext.
        patience_s: How long a call waits for a peer that is known to be away before it is sent, and how long a
            repeatable one is tried again after that (seconds).
    """

    def __init__(self, address: str, *, tls: ClientTls | None = None, patience_s: float = 2.0) -> None:
        self.address = address
        self._patience_s = patience_s
        options = [*grpc_options.CLIENT]
        if tls and tls.server_name:
            options.append(("grpc.ssl_target_name_override", tls.server_name))
        self.channel: grpc.aio.Channel = (
            grpc.aio.secure_channel(address, tls.credentials(), options=options)
            if tls
            else grpc.aio.insecure_channel(address, options=options)
        )

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout_s: float,
        repeatable: bool = False,
        patience_s: float | None = None,
    ) -> Response:
        """Calls a unary method.

        Args:
            method: Of a stub on this client's `channel`.
            request: Its message.
            timeout_s: Seconds for the whole call, repeats included; less where the work in progress has less.
            repeatable: Whether a second execution is harmless. Then a peer that is away, or needs somebody who is, is
                tried again for up to `patience_s`.
            patience_s: For this call, where the peer itself is away (seconds); None: as for every call.

        Raises:
            PagiError: The type that the status stands for.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        ends = began + deadline.within(timeout_s)
        patience_s = self._patience_s if patience_s is None else patience_s
        if self.channel.get_state() in _AWAY:
            await self._wait_for_peer(ends, patience_s)
        pause = _FIRST_PAUSE_S
        while True:
            left = ends - loop.time()
            if left <= 0:
                raise DeadlineExceededError(f"no time was left to call {self.address}")
            try:
                return await method(request, timeout=left, metadata=_metadata())
            except grpc.aio.AioRpcError as error:
                # Imported at the first failure: a process that starts needs no error details.
                from pagi_chassis.error_details import asked_pause_s, from_rpc_error

                told = from_rpc_error(error, self.address)
                if not (repeatable and isinstance(told, UnavailableError)):
                    raise told from error
                wait_s = max(pause, asked_pause_s(error))
                if loop.time() + wait_s >= min(ends, began + (patience_s if told.is_away else self._patience_s)):
                    raise told from error
            await asyncio.sleep(wait_s)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _wait_for_peer(self, ends: float, patience_s: float) -> None:
        """Waits for the connection to come back, so that a call that must not be sent twice need not be lost.

        It is the call itself that then fails, with the reason, where the peer stays away.
        """
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(patience_s, 0.8 * (ends - loop.time()))):
                while (state := self.channel.get_state(try_to_connect=True)) in _AWAY:
                    await self.channel.wait_for_state_change(state)

    async def stream(
        self, method: grpc.aio.UnaryStreamMultiCallable[Request, Response], request: Request, *, timeout_s: float
    ) -> AsyncGenerator[Response, None]:
        """Calls a method that answers with a stream. Leaving the iteration cancels the call.

        Raises:
            PagiError: The type that the status stands for, possibly after some messages.
        """
        call = method(request, timeout=deadline.within(timeout_s), metadata=_metadata())
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            from pagi_chassis.error_details import from_rpc_error

            raise from_rpc_error(error, self.address) from error
        finally:
            call.cancel()

    async def check_health(self, *, timeout_s: float = 1.0) -> None:
        """Asks the peer's health service.

        Raises:
            PagiError: It cannot be reached, or says that it does not serve.
        """
        stub = health_pb2_grpc.HealthStub(self.channel)
        answer: Any = await self.call(stub.Check, health_pb2.HealthCheckRequest(), timeout_s=timeout_s)
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise UnavailableError(f"{self.address} does not serve now")

    async def close(self) -> None:
        """Ends the connection and every call on it."""
        await self.channel.close(None)


def _metadata() -> tuple[tuple[str, str], ...]:
    return (*correlation.to_metadata(), *telemetry.inject().items())
