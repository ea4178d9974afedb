"""The effect ledger, fake and real in one suite, and that every effect happens once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from pagi_chassis.errors import UnavailableError
from pagi_chassis.lifecycle import StartError
from pagi_sandbox.adapters.fork_runner import ForkRunner
from pagi_sandbox.adapters.sqlite_effects import SqliteEffectLedger
from pagi_sandbox.domain.errors import EffectIdError, LedgerError, TooManyCallsError
from pagi_sandbox.domain.execution import Sandbox
from pagi_sandbox.domain.model import Artifact, EffectName, KnownEffect, ToolOutcome, ToolRequest, Verdict
from pagi_sandbox.domain.once import OnceByEffect
from pagi_sandbox.domain.ports import EffectLedger
from pagi_sandbox.domain.tool import Effects
from pagi_sandbox.testing import InMemoryLedger

NAME = EffectName("acme", "run/1/0")
WHOLE = ToolOutcome(
    Verdict.OUTPUT, '{"a": 1}', "out é", "err", "why", 12.5, True, "L2", (Artifact("a/b.png", "image/png", 7),)
)
Ledger = InMemoryLedger | SqliteEffectLedger


def sqlite_ledger(path: Path, **options: float) -> SqliteEffectLedger:
    return SqliteEffectLedger(
        path, max_age_s=options.get("max_age_s", 3600), max_bytes=int(options.get("max_bytes", 2**20))
    )


@pytest_asyncio.fixture(params=["fake", "sqlite"], loop_scope="module")
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ledger]:
    ledger = InMemoryLedger() if request.param == "fake" else sqlite_ledger(tmp_path / "new" / "effects.db")
    await ledger.start()
    yield ledger
    await ledger.stop()


class TestLedgers:
    async def test_knows_nothing_at_first(self, kept: Ledger) -> None:
        assert await kept.find(NAME) is None

    async def test_what_began_is_known_without_an_outcome(self, kept: Ledger) -> None:
        await kept.begin(NAME, "f")
        assert await kept.find(NAME) == KnownEffect("f")

    async def test_an_outcome_comes_back_whole(self, kept: Ledger) -> None:
        await kept.begin(NAME, "f")
        await kept.finish(NAME, "f", WHOLE)
        assert await kept.find(NAME) == KnownEffect("f", WHOLE)

    async def test_a_result_noted_soon_is_found_at_once_and_later(self, kept: Ledger) -> None:
        kept.finish_soon(NAME, "f", WHOLE)
        assert await kept.find(NAME) == KnownEffect("f", WHOLE)
        await kept.begin(EffectName("", "barrier"), "g")
        assert await kept.find(NAME) == KnownEffect("f", WHOLE)

    async def test_what_is_forgotten_is_not_known(self, kept: Ledger) -> None:
        await kept.begin(NAME, "f")
        kept.forget(NAME)
        await kept.begin(EffectName("", "barrier"), "g")
        assert await kept.find(NAME) is None

    async def test_tenants_have_effects_of_their_own(self, kept: Ledger) -> None:
        await kept.finish(NAME, "f", WHOLE)
        assert await kept.find(EffectName("", NAME.effect_id)) is None


class TestSqlite:
    async def test_outlives_the_process(self, tmp_path: Path) -> None:
        first = sqlite_ledger(tmp_path / "e.db")
        await first.start()
        await first.begin(NAME, "f")
        await first.finish(EffectName("", "x"), "g", WHOLE)
        first.finish_soon(EffectName("", "y"), "h", WHOLE)
        await first.stop()
        second = sqlite_ledger(tmp_path / "e.db")
        await second.start()
        assert await second.find(NAME) == KnownEffect("f")
        assert await second.find(EffectName("", "x")) == KnownEffect("g", WHOLE)
        assert await second.find(EffectName("", "y")) == KnownEffect("h", WHOLE)
        await second.stop()

    async def test_a_result_that_cannot_be_written_costs_no_other_and_is_not_known(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        ledger = sqlite_ledger(tmp_path / "e.db")
        await ledger.start()
        others = [EffectName("", "x"), EffectName("", "y")]
        unwritable = ToolOutcome(Verdict.OK, stdout="\ud800")
        ledger.finish_soon(others[0], "f", WHOLE)
        ledger.finish_soon(NAME, "f", unwritable)
        ledger.finish_soon(others[1], "f", WHOLE)
        await ledger.begin(EffectName("", "barrier"), "g")
        assert await ledger.find(NAME) is None
        assert [await ledger.find(name) for name in others] == [KnownEffect("f", WHOLE)] * 2
        assert caplog.text.count("an effect is not kept") == 1
        with pytest.raises(ValueError, match="surrogates"):
            await ledger.finish(NAME, "f", unwritable)
        assert await ledger.find(NAME) is None
        await ledger.stop()

    async def test_is_bounded_in_size_and_keeps_the_newest(self, tmp_path: Path) -> None:
        ledger = sqlite_ledger(tmp_path / "e.db", max_bytes=1_000_000)
        await ledger.start()
        await ledger.begin(EffectName("", "begun"), "f")
        big = ToolOutcome(Verdict.OK, stdout="x" * 10_000)
        for number in range(400):
            await ledger.finish(EffectName("", str(number)), "f", big)
        known = [number for number in range(400) if await ledger.find(EffectName("", str(number))) is not None]
        assert known[-1] == 399
        assert 20 < len(known) <= 100
        assert known == list(range(known[0], 400))
        assert await ledger.find(EffectName("", "begun")) == KnownEffect("f"), "what has no outcome is not let go"
        await ledger.stop()
        assert (tmp_path / "e.db").stat().st_size < 3_000_000

    async def test_what_stands_in_line_at_a_clean_up_is_counted_once_it_is_written(self, tmp_path: Path) -> None:
        ledger = sqlite_ledger(tmp_path / "e.db", max_bytes=100_000)
        await ledger.start()
        big = ToolOutcome(Verdict.OK, stdout="x" * 10_000)
        other = sqlite3.connect(tmp_path / "e.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # the ledger's own thread waits from here on
        first = [asyncio.create_task(ledger.finish(EffectName("", f"a{n}"), "f", big)) for n in range(10)]
        await asyncio.sleep(0)
        assert ledger._writer is not None
        while not ledger._writer._line.empty():
            await asyncio.sleep(0.001)
        second = [asyncio.create_task(ledger.finish(EffectName("", f"b{n}"), "f", big)) for n in range(5)]
        await asyncio.sleep(0)
        other.execute("ROLLBACK")
        await asyncio.gather(*first, *second)
        await ledger.stop()
        held = other.execute("SELECT sum(size) FROM effects").fetchone()[0]
        other.close()
        assert 50_000 < held <= 100_000

    async def test_what_nobody_waits_for_is_written_soon_all_the_same(self, tmp_path: Path) -> None:
        ledger = sqlite_ledger(tmp_path / "e.db")
        await ledger.start()
        for number in range(20):
            ledger.finish_soon(EffectName("", str(number)), "f", WHOLE)
        other = sqlite3.connect(tmp_path / "e.db", isolation_level=None)
        async with asyncio.timeout(5):
            while other.execute("SELECT count(*) FROM effects").fetchone() != (20,):
                await asyncio.sleep(0.01)
        other.close()
        await ledger.stop()

    async def test_lets_go_of_what_is_too_old(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pagi_sandbox.adapters.sqlite_effects._CLEAN_UP_EVERY_S", 0.0)
        now = [1000.0]
        ledger = SqliteEffectLedger(tmp_path / "e.db", max_age_s=60, max_bytes=2**20, now=lambda: now[0])
        await ledger.start()
        await ledger.finish(NAME, "f", WHOLE)
        now[0] = 1050.0
        await ledger.finish(EffectName("", "b"), "f", WHOLE)
        now[0] = 1061.0
        await ledger.finish(EffectName("", "c"), "f", WHOLE)
        await ledger.finish(EffectName("", "d"), "f", WHOLE)  # the clean-up after c is over
        assert await ledger.find(NAME) is None
        assert await ledger.find(EffectName("", "b")) is not None
        await ledger.stop()

    async def test_a_hundred_at_once_are_all_kept(self, tmp_path: Path) -> None:
        ledger = sqlite_ledger(tmp_path / "e.db")
        await ledger.start()
        await asyncio.gather(*(ledger.begin(EffectName("", str(number)), "f") for number in range(100)))
        with sqlite3.connect(tmp_path / "e.db") as other:
            assert other.execute("SELECT count(*) FROM effects WHERE result IS NULL").fetchone() == (100,)
        other.close()
        await ledger.stop()

    async def test_what_stands_in_line_to_be_written_is_known(self, tmp_path: Path) -> None:
        ledger = sqlite_ledger(tmp_path / "e.db")
        await ledger.start()
        await ledger.begin(EffectName("", "begun"), "f")
        other = sqlite3.connect(tmp_path / "e.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # the ledger's own thread waits from here on
        ledger.finish_soon(NAME, "f", WHOLE)
        ledger.forget(EffectName("", "begun"))
        assert await ledger.find(NAME) == KnownEffect("f", WHOLE)
        assert await ledger.find(EffectName("", "begun")) is None
        other.execute("ROLLBACK")
        other.close()
        await ledger.stop()

    async def test_one_that_cannot_be_opened_stops_the_start(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        ledger = sqlite_ledger(tmp_path / "file" / "e.db")
        with pytest.raises(StartError, match="SANDBOX_LEDGER_PATH"):
            await ledger.start()
        await ledger.stop()

    async def test_where_it_cannot_be_written_nothing_begins_and_nothing_finished_is_lost(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        ledger = sqlite_ledger(tmp_path / "e.db")
        await ledger.start()
        with sqlite3.connect(tmp_path / "e.db") as other:
            other.execute("CREATE TRIGGER full BEFORE INSERT ON effects BEGIN SELECT RAISE(FAIL, 'disk full'); END")
        other.close()
        ran = []
        once = OnceByEffect(ledger)

        async def work(begin: Callable[[], Awaitable[None]]) -> ToolOutcome:
            await begin()
            ran.append(1)
            return ToolOutcome(Verdict.OK)

        with pytest.raises(LedgerError, match="was not started"):
            await once.run(request(), Effects.EFFECTFUL, work)
        assert ran == []
        assert (await once.run(request(), Effects.READ_ONLY, work)).verdict is Verdict.OK
        await ledger.finish(NAME, "f", WHOLE)
        assert "not kept" in caplog.text
        await ledger.stop()


def request(effect_id: str = "run/1/0", arguments: str = "{}", tenant: str = "acme") -> ToolRequest:
    return ToolRequest("t", arguments, "s", effect_id=effect_id, tenant=tenant)


class Tool:
    """Counts how often it runs, and ends when it is told."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.runs = self.cancelled = 0
        self.go, self.running = asyncio.Event(), asyncio.Event()
        if at_once:
            self.go.set()

    async def __call__(self, begin: Callable[[], Awaitable[None]]) -> ToolOutcome:
        await begin()
        self.runs += 1
        self.running.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return ToolOutcome(Verdict.OK, json.dumps({"run": self.runs}))


EVERY = list(Effects)


class TestOnce:
    @pytest.mark.parametrize("effects", EVERY)
    async def test_a_repeat_gets_the_first_result(self, kept: EffectLedger, effects: Effects) -> None:
        once, tool = OnceByEffect(kept), Tool(at_once=True)
        first = await once.run(request(), effects, tool)
        again = await OnceByEffect(kept).run(request(), effects, tool)
        assert (first.output_json, first.replayed) == ('{"run": 1}', False)
        assert (again.output_json, again.replayed) == ('{"run": 1}', True)
        assert (await once.run(request("run/1/1"), effects, tool)).output_json == '{"run": 2}'
        assert (await once.run(request(tenant="other"), effects, tool)).output_json == '{"run": 3}'

    @pytest.mark.parametrize("effects", EVERY)
    async def test_a_repeat_while_the_first_runs_joins_it(self, kept: EffectLedger, effects: Effects) -> None:
        once, tool = OnceByEffect(kept), Tool()
        calls = [asyncio.create_task(once.run(request(), effects, tool)) for _ in range(5)]
        await tool.running.wait()
        calls.append(asyncio.create_task(once.run(request(), effects, tool)))
        await asyncio.sleep(0)
        tool.go.set()
        outcomes = await asyncio.gather(*calls)
        assert tool.runs == 1
        assert sorted(one.replayed for one in outcomes) == [False, True, True, True, True, True]

    async def test_a_caller_that_leaves_takes_the_call_along_only_where_nobody_else_waits(
        self, kept: EffectLedger
    ) -> None:
        once, tool = OnceByEffect(kept), Tool()
        first = asyncio.create_task(once.run(request(), Effects.EFFECTFUL, tool))
        await tool.running.wait()
        second = asyncio.create_task(once.run(request(), Effects.EFFECTFUL, tool))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait({first})
        tool.go.set()
        assert (await second).output_json == '{"run": 1}'
        assert tool.cancelled == 0

    @pytest.mark.parametrize("effects", EVERY)
    async def test_what_was_cancelled_midway_is_unknown_if_effectful_and_runs_again_if_not(
        self, kept: EffectLedger, effects: Effects
    ) -> None:
        once, tool = OnceByEffect(kept), Tool()
        call = asyncio.create_task(once.run(request(), effects, tool))
        await tool.running.wait()
        call.cancel()
        await asyncio.wait({call})
        await asyncio.sleep(0)
        assert tool.cancelled == 1
        tool.go.set()
        again = await once.run(request(), effects, tool)
        if effects is Effects.EFFECTFUL:
            assert (again.verdict, again.replayed, tool.runs) == (Verdict.OUTCOME_UNKNOWN, True, 1)
            assert "cancelled" in again.error
        else:
            assert (again.verdict, again.replayed, tool.runs) == (Verdict.OK, False, 2)

    @pytest.mark.parametrize("error", [UnavailableError("away"), TooManyCallsError(1, 1)])
    async def test_what_was_not_started_may_be_tried_again(self, kept: EffectLedger, error: Exception) -> None:
        once, tool = OnceByEffect(kept), Tool(at_once=True)

        async def refuses(begin: Callable[[], Awaitable[None]]) -> ToolOutcome:
            if isinstance(error, UnavailableError):
                await begin()
            raise error

        with pytest.raises(type(error)):
            await once.run(request(), Effects.EFFECTFUL, refuses)
        assert (await once.run(request(), Effects.EFFECTFUL, tool)).verdict is Verdict.OK

    async def test_a_fault_of_ours_leaves_an_effectful_call_unknown(self, kept: EffectLedger) -> None:
        async def breaks(begin: Callable[[], Awaitable[None]]) -> ToolOutcome:
            await begin()
            raise KeyError("a bug")

        once = OnceByEffect(kept)
        with pytest.raises(KeyError):
            await once.run(request(), Effects.EFFECTFUL, breaks)
        again = await once.run(request(), Effects.EFFECTFUL, breaks)
        assert (again.verdict, again.replayed) == (Verdict.OUTCOME_UNKNOWN, True)

    async def test_an_id_that_names_another_call_is_refused(self, kept: EffectLedger) -> None:
        once, tool = OnceByEffect(kept), Tool()
        running = asyncio.create_task(once.run(request(), Effects.READ_ONLY, tool))
        await tool.running.wait()
        for _ in range(2):  # while it runs, and from memory
            with pytest.raises(EffectIdError, match="another call") as caught:
                await once.run(request(arguments='{"other": 1}'), Effects.READ_ONLY, tool)
            assert caught.value.field == "effect_id"
            tool.go.set()
            await running
        with pytest.raises(EffectIdError, match="300 characters"):
            await once.run(request("x" * 300), Effects.READ_ONLY, tool)


class TestTheSandbox:
    async def test_an_effect_of_real_code_happens_once(self, sandbox: Sandbox, tmp_path: Path) -> None:
        code = "with open('log', 'a') as f: f.write('x')\nopen('log').read()"
        asked = ToolRequest("python", json.dumps({"code": code}), "s", effect_id="run/1/0")
        outcomes = await asyncio.gather(*(sandbox.execute(asked) for _ in range(4)))
        outcomes.append(await sandbox.execute(asked))
        assert [one.output_json for one in outcomes] == ['{"value": "\'x\'"}'] * 5
        assert sum(not one.replayed for one in outcomes) == 1
        assert outcomes[-1].artifacts == (Artifact("log", "text/plain", 1),)

    async def test_a_harmless_tool_runs_again_where_its_runner_died_under_it(
        self, sandbox: Sandbox, fork_runner: ForkRunner
    ) -> None:
        ends = [ToolOutcome(Verdict.OUTCOME_UNKNOWN, error="died"), ToolOutcome(Verdict.OK, "{}")]
        seen = []

        class Dying:
            async def run(self, call: object, watcher: object = None) -> ToolOutcome:
                seen.append(call)
                return ends[len(seen) - 1]

        for tool, verdict, runs in (("math", Verdict.OK, 2), ("python", Verdict.OUTCOME_UNKNOWN, 1)):
            seen.clear()
            object.__setattr__(sandbox.registry.find(tool), "runner", Dying())
            arguments = {"math": {"expression": "1"}, "python": {"code": "1"}}[tool]
            outcome = await sandbox.execute(ToolRequest(tool, json.dumps(arguments), "s", effect_id=f"e/{tool}"))
            assert (outcome.verdict, len(seen)) == (verdict, runs)
