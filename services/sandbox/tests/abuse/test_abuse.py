"""Every program of the abuse suite, as root and as an ordinary user, against what is expected of it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
from pathlib import Path

import pytest
from abuse.campaign import SUMMARY, Campaign, run_campaigns
from abuse.expected import CASES, LANDLOCK, NAMESPACES, PROGRAMS, SECCOMP, Case
from abuse.readable_python import as_user

# The highest profile that the system grants, and the one that needs no privilege at all.
CAMPAIGNS = [(user, profile) for user in ("root", "user") for profile in ("auto", "L1")]
# Landlock's ABI from which on it confines signals.
SCOPED = 6
# The first test waits for all programs of all campaigns; on a busy machine that takes minutes, and would fail them all.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="session")
def campaigns(request: pytest.FixtureRequest, python: Path) -> dict[tuple[str, str], Campaign]:
    """What became of the programs that were asked for, in each of the campaigns that were."""
    asked = [item.callspec.params for item in request.session.items if _is_ours(item)]
    cases = {one["case"].name for one in asked if "case" in one}
    wanted = [one for one in CAMPAIGNS if any(item["campaign"] == one for item in asked) and can_be(one[0])]
    services = [(user, {"SANDBOX_PROFILE": profile}) for user, profile in wanted]
    done = asyncio.run(run_campaigns(services, python, [case for case in CASES if case.name in cases]))
    for (user, profile), campaign in zip(wanted, done, strict=True):
        _report(f"{user}-{profile}", campaign)
        request.config.stash.setdefault(SUMMARY, []).extend(summary(user, campaign))
    return dict(zip(wanted, done, strict=True))


@pytest.fixture(scope="session", params=CAMPAIGNS, ids="-".join)
def campaign(request: pytest.FixtureRequest) -> Campaign:
    """One of them."""
    if not can_be(request.param[0]):
        pytest.skip("only root can start the sandbox as root; the tests do not run as root")
    found: Campaign = request.getfixturevalue("campaigns")[request.param]
    return found


def can_be(user: str) -> bool:
    """Whether a service can be started as this one here."""
    return user != "root" or os.geteuid() == 0


def _report(user: str, campaign: Campaign) -> None:
    """All that was seen, where somebody wants to read it: ABUSE_REPORT names a folder."""
    folder = os.environ.get("ABUSE_REPORT")
    if folder:
        lines = [f"{user} {campaign.profile} {sorted(campaign.layers)} {campaign.aftermath}"]
        for one in campaign.results.values():
            lines.append(
                f"{one.case.name} {one.verdict} {one.milliseconds:.0f} ms {one.error!r} {one.harm} {one.wrong}"
            )
            lines += [f"    {kind} {what}: {detail}" for kind, what, detail in one.told]
        lines.append(campaign.log)
        Path(folder, f"{user}.txt").write_text("\n".join(lines), encoding="utf-8", errors="replace")


def _is_ours(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and "campaign" in getattr(getattr(item, "callspec", None), "params", {})


def summary(user: str, campaign: Campaign) -> list[str]:
    """How a campaign went, in a few lines."""
    results = campaign.results.values()
    ordinary = [result for result in results if result.case.ordinary]
    hostile = [result for result in results if not result.case.ordinary]
    held = [result for result in hostile if not result.achieved()]
    works = [result for result in ordinary if not result.faults()]
    lines = [
        f"as {user}, profile {campaign.profile}: held {len(held)} of {len(hostile)} hostile programs, "
        f"{len(works)} of {len(ordinary)} ordinary ones work, {campaign.seconds:.0f} s"
    ]
    for result in hostile:
        if result.achieved() and campaign.is_open(result.case):
            lines.append(f"  let through: {result.case.name} (needs {' or '.join(result.case.closed_by)})")
    for result in ordinary:
        if result.faults() and campaign.cannot_work(result.case):
            lines.append(f"  does not work: {result.case.name} (needs {' or '.join(result.case.needs)})")
    beyond = [one.case.name for one in hostile if not one.achieved() and campaign.is_open(one.case)]
    if beyond:
        lines.append(f"  held, though no layer promises it here: {', '.join(beyond)}")
    return lines


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_program(campaign: Campaign, case: Case) -> None:
    result = campaign.results[case.name]
    if result.verdict == "FAILED_PRECONDITION":
        assert result.achieved() == []
        pytest.xfail(f"not run with so little isolation: {result.error}")
    if campaign.is_open(case):
        achieved = result.achieved()
        if achieved:
            pytest.xfail(f"let through, needs {' or '.join(case.closed_by)}: {achieved[0]}")
        return
    if campaign.cannot_work(case):
        pytest.xfail(f"does not work without {' or '.join(case.needs)}: {result.error[-200:]}")
    assert result.faults() == []


def test_nothing_else_was_harmed(campaign: Campaign) -> None:
    assert campaign.aftermath == []


def test_the_profile_is_what_the_system_grants(campaign: Campaign) -> None:
    """Else everything would be refused, and nothing here would be tried."""
    if landlock_abi() < SCOPED and campaign.uid != 0:
        pytest.skip("an ordinary user needs Landlock's ABI 6 for more than L0, and this kernel has less")
    assert campaign.profile >= "L1"
    assert {SECCOMP, LANDLOCK} <= campaign.layers
    if campaign.asked == "auto" and mounts_work(campaign.uid):
        assert NAMESPACES in campaign.layers


def landlock_abi() -> int:
    """0 where there is none."""
    return max(0, int(ctypes.CDLL(None).syscall(444, None, 0, 1)))


def mounts_work(uid: int) -> bool:
    """Whether a mount works in a new namespace: unshare alone may succeed where mount does not."""
    command = [*as_user(uid), "unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/tmp"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_every_program_is_in_the_table() -> None:
    programs = {str(path.relative_to(PROGRAMS).with_suffix("")) for path in Path(PROGRAMS).rglob("*.py")}
    assert programs == {case.name for case in CASES}
    assert len(CASES) == len({case.name for case in CASES})
