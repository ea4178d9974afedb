"""Takes leases on its files, so that whoever opens them waits for it, and watches its folder. Source: fcntl(2)."""

import contextlib
import fcntl
import os
import signal
import time

from probe import held

for name in ("leased", "leased-for-reading"):
    open(name, "wb").close()
descriptors = [os.open("leased", os.O_RDWR), os.open("leased-for-reading", os.O_RDONLY)]
signal.signal(signal.SIGIO, signal.SIG_IGN)
for descriptor, kind in zip(descriptors, (fcntl.F_WRLCK, fcntl.F_RDLCK), strict=True):
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, 1024, kind)
        held("a lease", kind)
folder = os.open(".", os.O_RDONLY)
with contextlib.suppress(OSError):
    fcntl.fcntl(folder, fcntl.F_NOTIFY, fcntl.DN_MULTISHOT | fcntl.DN_ACCESS | fcntl.DN_CREATE)
time.sleep(0.3)
