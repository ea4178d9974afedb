"""Rewires the interpreter that answers for it: json, os, socket, builtins, the tool's own modules."""

import builtins
import json
import socket
import sys

json.dumps = lambda *_, **__: '{"value": "rewired"}'
socket.socket.sendall = lambda *_: None
builtins.dict = builtins.bytes = None
for module in list(sys.modules.values()):
    if getattr(module, "__name__", "").startswith("pagi_sandbox"):
        module.__dict__.clear()
