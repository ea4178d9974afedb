"""Uses the ready clients: urllib, http.client, asyncio, xmlrpc."""

import asyncio
import http.client
import urllib.request

from probe import TARGET, attempt

url = f"http://127.0.0.1:{TARGET['tcp']}/{TARGET['name']}"


async def stream():
    _, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", TARGET["tcp"]), 1)
    writer.close()
    return "connected"


def client():
    connection = http.client.HTTPConnection("127.0.0.1", TARGET["tcp"], timeout=1)
    connection.connect()
    return "connected"


def opener():
    try:
        return urllib.request.urlopen(url, timeout=1)
    except http.client.HTTPException as error:
        return f"reached: {error!r}"


attempt("http.client", client)
attempt("urllib", opener)
attempt("asyncio", lambda: asyncio.run(stream()))
