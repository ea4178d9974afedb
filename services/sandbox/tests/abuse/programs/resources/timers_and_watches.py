"""Takes kernel objects that have small system-wide limits: inotify instances, epolls, timers, eventfds."""

import os
import select

from probe import TARGET, held, libc

kept = []
try:
    for _ in range(3000):
        kept.append(select.epoll())
        kept.append(os.eventfd(0))
        libc().inotify_init1(0)
except OSError as error:
    held(f"after {len(kept)}", f"{error} {TARGET['name']}")
