#!/usr/bin/env -S python3 -IS
"""Health check of a container: `container-health <port>` succeeds while GET /health answers 200.

An image has no curl. This asks over a bare socket, because importing an HTTP client costs five times the question.
"""

import socket
import sys

TIMEOUT_S = 3.0


def main() -> int:
    """Asks once; prints what the service said of itself, which `docker inspect` shows."""
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        print("usage: container-health <port>")
        return 2
    port = int(sys.argv[1])
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    except OSError as error:
        print(f"port {port}: {error}")
        return 1
    head, _, body = answer.partition(b"\r\n\r\n")
    print(body.decode("utf-8", "replace"))
    return 0 if head.split(b" ")[1:2] == [b"200"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
