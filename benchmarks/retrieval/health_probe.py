"""A process that asks for `/health` again and again, as a load balancer would. Told and tells JSON, a line each."""

from __future__ import annotations

import http.client
import json
import sys
import time

_PAUSE_S = 0.02


def main() -> None:
    """For each `{"port": …, "seconds": …}` answers with the milliseconds that each request took."""
    for line in sys.stdin:
        question = json.loads(line)
        took: list[float] = []
        connection = http.client.HTTPConnection("127.0.0.1", question["port"], timeout=10)
        ends = time.perf_counter() + question["seconds"]
        while time.perf_counter() < ends:
            began = time.perf_counter()
            connection.request("GET", "/health")
            answer = connection.getresponse()
            answer.read()
            took.append((time.perf_counter() - began) * 1e3)
            assert answer.status == 200, answer.status
            time.sleep(_PAUSE_S)
        connection.close()
        sys.stdout.write(json.dumps(took) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
