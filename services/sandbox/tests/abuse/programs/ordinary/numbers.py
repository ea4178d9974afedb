"""Computes: decimal, fractions, statistics, random, secrets, math, cmath."""

import cmath
import decimal
import fractions
import math
import random
import secrets
import statistics
import uuid

from probe import ok

assert decimal.Decimal("0.1") + decimal.Decimal("0.2") == decimal.Decimal("0.3")
assert fractions.Fraction(1, 3) * 3 == 1
assert statistics.mean([1, 2, 3]) == 2
assert math.isclose(cmath.sqrt(-1).imag, 1)
assert random.Random(1).random() == 0.13436424411240122
assert secrets.token_hex(8) != secrets.token_hex(8)
assert uuid.uuid4() != uuid.uuid4()
ok("numbers")
