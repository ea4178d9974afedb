"""A stand-in for a service of the mesh: answers /health/ready, and misbehaves where it is told to.

Usage: fake_service.py PORT FOLDER [child] [escaped-child] [deaf] [fail] [never-ready]
"""

import http.server
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

port, folder, faults = int(sys.argv[1]), Path(sys.argv[2]), set(sys.argv[3:])
(folder / f"{os.getpid()}.pid").touch()
SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if "never-ready" in faults else 200)
        self.end_headers()

    def log_message(self, *_):
        pass


print(f"hello from {port}", flush=True)
if "fail" in faults:
    sys.exit("the reason why it cannot start")
if "deaf" in faults:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for name in faults & {"child", "escaped-child"}:
    child = subprocess.Popen(SLEEP, start_new_session=name == "escaped-child")
    (folder / f"{child.pid}.pid").touch()
while True:
    try:
        http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
    except OSError as error:
        print(error, flush=True)
        time.sleep(0.01)
