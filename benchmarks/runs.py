"""What runs cost that wait, that are over, and that are cut off: lines made of the figures of `recovery`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from benchmarks.recovery import FEW, MANY, measure
from benchmarks.rows import Part, Row, met, say

_WAITING_KIB = 20e3 / 1024
_GROWN_MIB = 20.0
_RECOVERY_S = 10.0
_BEGUN_S = 5.0


def run_rows(_folder: Path, _quick: bool) -> Part:
    """Measures them in a process of their own."""
    say("runs that wait, that are over, that were cut off")
    seen = measure()
    aims = {
        "waiting": f"{met(seen.waiting_kib < _WAITING_KIB)} < 20 KB",
        "grown": f"{met(seen.grown_mib < _GROWN_MIB)} < {_GROWN_MIB:g} MiB more",
        "begun": f"{met(seen.begun_after_s < _BEGUN_S)} < {_BEGUN_S:g} s",
        "recovered": f"{met(seen.recovery_s < _RECOVERY_S)} < {_RECOVERY_S:g} s",
    }
    cut_off = f"{seen.recovered:,} runs that were cut off"
    rows = [
        Row(
            f"a run that waits for a person, of {seen.waited:,}",
            "KiB",
            None,
            seen.waiting_kib,
            None,
            aim=aims["waiting"],
        ),
        Row(
            f"resident memory after {MANY:,} runs, to after {FEW:,}",
            "MiB",
            seen.resident_mib,
            seen.resident_mib + seen.grown_mib,
            (seen.resident_mib + seen.grown_mib) / seen.resident_mib,
            aim=aims["grown"],
        ),
        Row(f"{cut_off}: first of them at work again", "s", None, seen.begun_after_s, None, aim=aims["begun"]),
        Row(
            f"{cut_off}: all ended, to as many that nothing cut off",
            "s",
            seen.undisturbed_s,
            seen.recovery_s,
            seen.recovery_s / seen.undisturbed_s,
            aim=aims["recovered"],
        ),
    ]
    return Part(rows, asdict(seen))
