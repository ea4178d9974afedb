"""Makes the disk's device node in its workspace and reads from it. Source: mknod(2)."""

import os
import stat

from probe import attempt

attempt("a block device", os.mknod, "disk", stat.S_IFBLK | 0o600, os.makedev(254, 0))
attempt("a character device", os.mknod, "memory", stat.S_IFCHR | 0o600, os.makedev(1, 1))
