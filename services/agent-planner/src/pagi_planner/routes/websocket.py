"""`WS /ws`: chats with the agent over one connection, as many at once as it likes up to a bound."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Collection, Coroutine
from contextlib import suppress
from typing import Any, assert_never
from urllib.parse import urlsplit

import msgspec
from pagi_chassis import api_key, correlation
from pagi_chassis.errors import PagiError
from pagi_chassis.ids import new_id
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from pagi_planner.domain.agent import session_id_of
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.watching.stream import Position
from pagi_planner.domain.watching.watcher import Watcher
from pagi_planner.routes.chat_view import Chat
from pagi_planner.routes.departure import if_client_leaves
from pagi_planner.routes.event_stream import Patience
from pagi_planner.routes.websocket_messages import (
    CancelIn,
    ChatIn,
    DecideIn,
    PingIn,
    RefusedError,
    Said,
    WatchIn,
    auth_in,
    ending,
    problem_data,
    said_in,
    shown,
)
from pagi_planner.schemas import Bounds

log = logging.getLogger(__name__)

# What one connection does at once.
MOST_AT_ONCE = 20
# Who shows no key in the head has so long to send it.
AUTH_S = 10.0
# RFC 6455, 7.4.1: the message breaks the rules of the endpoint; the server failed.
POLICY, FAULT = 1008, 1011
_encode = msgspec.json.Encoder().encode


def route(runs: Runs, bounds: Bounds, patience: Patience, *, key: str, origins: Collection[str]) -> WebSocketRoute:
    """The route of the WebSocket.

    Args:
        runs: Starts and shows runs.
        bounds: What the operator allows.
        patience: How long a client may take nothing.
        key: What callers must show; empty: nothing.
        origins: Pages of these origins may connect, beside those of this host.
    """

    async def connect(websocket: WebSocket) -> None:
        if not _is_from_here(websocket, origins) or not _may_enter(websocket, key):
            # Before it is accepted, this is 403 to the client.
            await websocket.close(POLICY)
            return
        await websocket.accept()
        connection = Connection(websocket, runs, bounds, patience)
        must_show = bool(key) and not api_key.is_shown(websocket.headers, key)
        await connection.serve(key if must_show else "")

    return WebSocketRoute("/ws", connect)


class Connection:
    """One client.

    Args:
        websocket: Accepted.
        runs: Starts and shows runs.
        bounds: What the operator allows.
        patience: How long the client may take nothing.
    """

    def __init__(self, websocket: WebSocket, runs: Runs, bounds: Bounds, patience: Patience) -> None:
        self._websocket = websocket
        self._runs = runs
        self._bounds = bounds
        self._patience = patience
        self._works: set[asyncio.Task[None]] = set()
        self._departures: dict[str, Any] = {}
        self._sending = asyncio.Lock()
        # Chats that name no session go on in the one before.
        self._session_id = ""

    async def serve(self, key: str) -> None:
        """Hears the client until it leaves; first asks for the key where there is one."""
        try:
            if key and not await self._is_let_in(key):
                await self._websocket.close(POLICY, "unauthenticated")
                return
            while True:
                await self._hear(await self._receive())
        except (WebSocketDisconnect, TimeoutError):
            pass
        finally:
            await self._leave()

    async def _is_let_in(self, key: str) -> bool:
        try:
            async with asyncio.timeout(AUTH_S):
                shown_key = auth_in(await self._receive()).api_key
        except (RefusedError, TimeoutError):
            shown_key = ""
        is_right = hmac.compare_digest(shown_key.encode("utf-8", "surrogatepass"), key.encode())
        await self._say("authenticated" if is_right else "error", {} if is_right else {"error": "unauthenticated"})
        return is_right

    async def _receive(self) -> str | None:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text: str | None = message.get("text")
        return text

    async def _hear(self, text: str | None) -> None:
        try:
            said = said_in(text)
            if len(self._works) >= MOST_AT_ONCE:
                raise RefusedError(f"{MOST_AT_ONCE} things are being done for this connection already", status=429)
        except RefusedError as refused:
            await self._say("error", refused.data)
            return
        work = asyncio.create_task(self._safely(self._do(said), getattr(said, "request_id", None)))
        self._works.add(work)
        work.add_done_callback(self._works.discard)

    async def _do(self, said: Said) -> None:
        match said:
            case ChatIn():
                await self._chat(said)
            case WatchIn():
                chat = Chat(show_thinking=said.show_thinking)
                with await self._runs.watch(said.task_id, Position(), thoughts=said.show_thinking) as watcher:
                    await self._show(watcher, said.task_id, chat)
            case CancelIn():
                # Whoever shows the run says how it ended.
                run = await self._runs.cancel(said.task_id)
                await self._say("task_updated", {"task_id": said.task_id, "status": run.status})
            case DecideIn():
                run = await self._runs.decide(said.task_id, said.call_id, said.to_domain())
                await self._say("task_updated", {"task_id": said.task_id, "status": run.status})
            case PingIn():
                await self._say("pong", {})
            case _:
                assert_never(said)

    async def _chat(self, said: ChatIn) -> None:
        names_session = said.session_id or self._session_id
        body = said.model_copy(update={"session_id": names_session or None})
        begun = await self._runs.begin(body.request(said.content, self._bounds, field="content"))
        run_id = begun.run_id
        session_id = self._session_id = names_session or session_id_of(run_id)
        if left := if_client_leaves(self._runs, run_id, said.on_disconnect):
            self._departures[run_id] = left
        try:
            with self._runs.follow(begun, thoughts=said.show_thinking) as watcher:
                if not names_session:
                    await self._say("session_created", {"session_id": session_id})
                ids = {"session_id": session_id, "trace_id": correlation.current().trace_id}
                await self._say("task_created", {"task_id": run_id, "request_id": said.request_id, **ids})
                await self._show(watcher, run_id, Chat(show_thinking=said.show_thinking))
            self._departures.pop(run_id, None)
        except (WebSocketDisconnect, TimeoutError):
            # What its leaving means is seen to at the end of the connection.
            await self._end()

    async def _show(self, watcher: Watcher, run_id: str, chat: Chat) -> None:
        while items := await watcher.next():
            for message in chat.take(items):
                await self._say(*shown(message, run_id))
        if chat.is_over:
            for kind, data in ending(await self._runs.settled(run_id)):
                await self._say(kind, data)

    async def _safely(self, work: Coroutine[Any, Any, None], request_id: str | None) -> None:
        """Tells the client what goes wrong; the connection lives."""
        with correlation.bind(trace_id=new_id()):
            try:
                await work
            except PagiError as error:
                await self._say("error", {"request_id": request_id, **problem_data(error)})
            except (WebSocketDisconnect, TimeoutError):
                await self._end()
            except Exception:
                log.exception("a message over the WebSocket failed")
                await self._say("error", {"request_id": request_id, "error": "internal error", "status": 500})

    async def _say(self, kind: str, data: dict[str, Any]) -> None:
        """Sends one frame.

        Raises:
            WebSocketDisconnect: The client is gone.
            TimeoutError: It takes nothing.
        """
        text = _encode({"type": kind, "data": data}).decode()
        async with self._sending, asyncio.timeout(self._patience.stall_s):
            try:
                await self._websocket.send_text(text)
            except RuntimeError as error:
                # Starlette's word for: it was closed by us.
                raise WebSocketDisconnect(FAULT) from error

    async def _end(self) -> None:
        with suppress(RuntimeError, WebSocketDisconnect):
            await self._websocket.close(FAULT)

    async def _leave(self) -> None:
        """Ends what was done for the client; its runs go on, but for those that it wanted cancelled."""
        works = [*self._works]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        for left in self._departures.values():
            try:
                await left()
            except PagiError as error:
                log.warning("a run whose client left is not cancelled: %s", error.message)


def _may_enter(websocket: WebSocket, key: str) -> bool:
    """Whether it shows the right key, or none: then it may send it."""
    headers = websocket.headers
    shows_one = "x-api-key" in headers or "authorization" in headers
    return not key or not shows_one or api_key.is_shown(headers, key)


def _is_from_here(websocket: WebSocket, origins: Collection[str]) -> bool:
    """Whether no page of another site opens it: browsers let any page connect to any host, and say which it is."""
    origin = websocket.headers.get("origin")
    if origin is None or origin in origins:
        return True
    return urlsplit(origin).netloc == websocket.headers.get("host")
