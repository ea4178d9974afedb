"""Goes out by links of its own process: /proc/self/root, /proc/self/cwd/.., /proc/thread-self."""

from pathlib import Path

from probe import TARGET, attempt

for way in ("/proc/self/root", "/proc/thread-self/root", "/proc/self/cwd" + "/.." * 20):
    attempt(f"outside by {way[:24]}", Path(way + TARGET["secret"]).read_text)
