"""Draws random numbers that must differ from every other call's, though all come from one parent."""

import random
import secrets

from probe import ok

ok("random", random.getrandbits(64))
ok("system", secrets.randbits(64))
