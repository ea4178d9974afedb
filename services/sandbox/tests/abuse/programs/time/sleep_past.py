"""Sleeps past its limit."""

import time

print("slept", flush=True)
time.sleep(60)
