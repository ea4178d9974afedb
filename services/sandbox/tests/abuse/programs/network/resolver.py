"""Asks the C library's resolver for a name, which opens sockets of several kinds by itself."""

import threading

from probe import TARGET, attempt, held


def resolve():
    import socket

    return socket.getaddrinfo(f"{TARGET['name'][-40:].replace('/', '-').replace('_', '-')}.example", 80)


thread = threading.Thread(target=attempt, args=("resolve a name", resolve), daemon=True)
thread.start()
thread.join(1)
if thread.is_alive():
    held("resolve a name", "no answer in a second")
