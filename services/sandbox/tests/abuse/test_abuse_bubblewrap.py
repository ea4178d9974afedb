"""The same programs against bubblewrap as the backend, as an ordinary user and in part as root."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
from abuse.campaign import ORDINARY_UIDS, SUMMARY, Campaign, run_campaigns
from abuse.expected import CASES, NAMESPACES, SECCOMP
from abuse.readable_python import as_user
from abuse.test_abuse import can_be, summary

# What bounds resources is the native jail's code, tried there and by test_bubblewrap.py. As root there is a user for
# each session besides: programs for which that makes no difference are not run twice.
_AS_ROOT = ("secrets", "privilege", "workspace")
_CASES = {
    "root": [case for case in CASES if case.name.split("/")[0] in _AS_ROOT],
    "user": [case for case in CASES if not case.name.startswith("resources/")],
}
_TRIAL = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--tmpfs", "/tmp", "--proc", "/proc", "true"]


@pytest.fixture(scope="module")
def bubblewrapped(python: Path) -> dict[str, Campaign]:
    """What became of the programs, by who started the service."""
    if shutil.which("bwrap") is None:
        pytest.skip("there is no program bwrap here: install the package bubblewrap")
    trial = subprocess.run([*as_user(ORDINARY_UIDS[0]), *_TRIAL], capture_output=True, text=True, check=False)
    if trial.returncode:
        pytest.skip(f"bwrap cannot work here: {trial.stderr.strip()}")
    found = {}
    for user, cases in _CASES.items():
        if can_be(user):
            [found[user]] = asyncio.run(run_campaigns([(user, {"SANDBOX_BACKEND": "bubblewrap"})], python, cases))
    return found


@pytest.mark.parametrize("user", ["root", "user"])
def test_bubblewrap_holds_what_its_layers_promise(
    bubblewrapped: dict[str, Campaign], user: str, request: pytest.FixtureRequest
) -> None:
    if user not in bubblewrapped:
        pytest.skip("only root can start the sandbox as root; the tests do not run as root")
    campaign = bubblewrapped[user]
    lines = summary(user, campaign)
    request.config.stash.setdefault(SUMMARY, []).extend(["with bubblewrap, " + lines[0], *lines[1:]])
    assert campaign.profile >= "L2"
    assert {SECCOMP, NAMESPACES} <= campaign.layers
    assert campaign.aftermath == []
    faults = {
        name: result.faults()
        for name, result in campaign.results.items()
        if result.faults() and not campaign.is_open(result.case) and not campaign.cannot_work(result.case)
    }
    assert faults == {}
