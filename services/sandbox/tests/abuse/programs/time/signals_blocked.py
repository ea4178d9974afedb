"""Blocks every signal in every thread."""

import signal
import threading
import time


def stay():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        time.sleep(1)


threading.Thread(target=stay).start()
stay()
