"""`models.yaml`: what it becomes, every fault named by its line, and a change of it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from pagi_chassis.component import StartError
from pagi_chassis.errors import FailedPreconditionError
from pagi_chassis.settings import variable
from pagi_gateway.adapters.models_file import ModelsFileError, read_models
from pagi_gateway.adapters.models_watch import READ, WRONG, ModelsWatch
from pagi_gateway.adapters.target_sources import lacking
from pagi_gateway.domain.models_config import ModelsConfig
from pagi_gateway.domain.routes import Balance, Choice, Fault, Habits, Route, Routes, Target
from pagi_gateway.settings import GatewaySettings
from pydantic import SecretStr

DOCS = Path(__file__).parents[3] / "docs" / "models.md"
GOOD = """\
targets:
  one: {provider: mock, model: mock}
aliases:
  default: one
"""


def read(path: Path, text: str) -> ModelsConfig:
    path.write_text(text)
    return read_models(path, lambda target: "")


def routes(path: Path, text: str) -> Routes:
    found = read(path, text).routes
    assert found is not None
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "models.yaml"


def test_the_file_of_the_documentation_is_read(path: Path) -> None:
    (written,) = re.findall(r"```yaml\n(targets:.*?)```", DOCS.read_text(), re.DOTALL)
    made = routes(path, written)
    assert made.aliases["default"].choices == (Choice("claude", 1), Choice("gpt-team-a", 2), Choice("house", 3))
    assert made.aliases["default"].habits == made.habits == Habits()
    fast = made.aliases["fast"]
    assert (fast.habits.balance, fast.habits.attempts) == (Balance.LEAST_BUSY, 4)
    assert [(each.target, each.order, each.weight) for each in fast.choices] == [
        ("gpt-team-a", 1, 3),
        ("gpt-team-b", 1, 1),
        ("house", 2, 1),
    ]
    assert made.targets["gpt-team-a"].limits.concurrent == 32
    assert made.targets["claude"].timeouts.connect_s == 3


def test_short_and_long_forms_are_the_same(path: Path) -> None:
    short = routes(path, GOOD)
    long = routes(path, GOOD.replace("default: one", "default: {targets: [{target: one, order: 1, weight: 1.0}]}"))
    assert (
        short
        == long
        == Routes(
            {"one": Target("one", "mock", "mock")}, {"default": Route("default", (Choice("one"),))}, "default", Habits()
        )
    )


def test_habits_are_for_all_but_those_who_say_otherwise(path: Path) -> None:
    made = routes(
        path,
        GOOD + "  other: {attempts: 7, targets: [one]}\n"
        "routing: {attempts: 2, balance: least_busy, fail_over_on: [down], breaker: {failures: 9}}\n",
    )
    assert made.aliases["default"].habits == Habits(Balance.LEAST_BUSY, 2, 2.0, frozenset({Fault.DOWN}))
    assert made.aliases["other"].habits == Habits(Balance.LEAST_BUSY, 7, 2.0, frozenset({Fault.DOWN}))
    assert made.breaker.failures == 9


@pytest.mark.parametrize("text", ["", "# nothing\n", "routing: {attempts: 2}\n", "{}"])
def test_without_targets_the_environment_decides(path: Path, text: str) -> None:
    assert read(path, text).routes is None


WRONG_FILES = [
    ("targets: [\n", 2, "this is not YAML"),
    ("targets:\n\tone: {}\n", 2, "this is not YAML"),
    ("targets: {}\ntargets: {}\n", 2, "'targets' is here for the second time"),
    ("- a\n", 1, "this must be a mapping of members, not list"),
    ("tragets: {}\n", 1, "tragets: there is no such member; there are targets, aliases, routing"),
    (GOOD.replace("model: mock", "modle: mock"), 2, "targets.one.modle: there is no such member"),
    (GOOD.replace("model: mock", "modle: mock"), 2, "targets.one: model is missing"),
    (GOOD.replace("provider: mock", "provider: mocks"), 2, "targets.one.provider: this must be 'mock', 'scripted'"),
    (GOOD.replace("model: mock", "model: 4"), 2, "targets.one.model: this must be a valid string, not 4"),
    (GOOD.replace("model: mock", "model: mock, base_url: localhost"), 2, "base_url: give a URL with http://"),
    (
        GOOD.replace("default: one", "default: two"),
        4,
        "aliases.default: there is no target 'two'; there are one",
    ),
    (GOOD.replace("default: one", "other: one"), 3, "aliases: one alias must be named default"),
    (GOOD.replace("default: one", "default: []"), 4, "aliases.default"),
    (GOOD.replace("default: one", "default: [one, one]"), 4, "one is in it twice; use weight instead"),
    (GOOD + "  one: [one, two]\n", 5, "'one' is a target too"),
    (
        GOOD.replace("default: one", "default:\n    - {target: one, weight: -1}"),
        5,
        "weight: this must be greater than 0",
    ),
    (
        GOOD.replace("default: one", "default:\n    - {target: one, weight: .nan}"),
        5,
        "weight: this must be a finite",
    ),
    (
        GOOD.replace("one: {p", "two: {provider: mock, model: m}\n  one: {p").replace(
            "default: one", "default:\n    - one\n    - {target: two, order: 2}"
        ),
        5,
        "give every target an order, or none",
    ),
    (GOOD + "routing:\n  attempts: 0\n", 6, "routing.attempts: this must be greater than or equal to 1, not 0"),
    (GOOD + "routing:\n  fail_over_on: [everything]\n", 6, "routing.fail_over_on[0]: this must be 'timeout'"),
    (GOOD + "routing:\n  breaker:\n    failures: 1.5\n", 7, "routing.breaker.failures"),
    (GOOD + "12: {}\n", 5, 'a key must be a text; put it in "quotes"'),
    (GOOD + "routing: &a\n  breaker: *a\n", 6, "this is a part of itself"),
    (GOOD.replace("{provider: mock", "{<<: {}, provider: mock"), 2, "<< is not read here"),
    (GOOD + "x: 2026-99-99\n", 5, "this value cannot be read"),
]


@pytest.mark.parametrize(("text", "line", "what"), WRONG_FILES, ids=[what[:40] for _, _, what in WRONG_FILES])
def test_a_fault_is_named_by_its_line(path: Path, text: str, line: int, what: str) -> None:
    with pytest.raises(ModelsFileError) as caught:
        read(path, text)
    told = str(caught.value).splitlines()
    assert any(each.startswith(f"{path}, line {line}: ") and what in each for each in told), told


def test_all_faults_are_told_at_once_in_order(path: Path) -> None:
    with pytest.raises(ModelsFileError) as caught:
        read(path, "targets:\n  one: {provider: mock}\n  two: {model: 3}\naliases: 7\nrouting: {attempts: x}\n")
    assert re.findall(r"line (\d+): (\S+):", str(caught.value)) == [
        ("2", "targets.one"),
        ("3", "targets.two.model"),
        ("3", "targets.two"),
        ("4", "aliases"),
        ("5", "routing.attempts"),
    ]


def test_a_key_in_the_file_is_not_shown(path: Path) -> None:
    with pytest.raises(ModelsFileError, match="api_key_env") as caught:
        read(path, GOOD.replace("model: mock", "model: mock, api_key_env: sk-proj-very-secret-0123456789"))
    assert "very-secret" not in str(caught.value)


def test_bytes_that_are_no_text_and_files_that_are_too_large(path: Path) -> None:
    path.write_bytes(b"targets: {}\n# \xff\n")
    with pytest.raises(ModelsFileError, match="line 2: this is not UTF-8"):
        read_models(path, lambda target: "")
    path.write_text("#" * (1 << 20) + "\n")
    with pytest.raises(ModelsFileError, match="larger than 1 MiB"):
        read_models(path, lambda target: "")
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{number}: &a{number} [{','.join([f'*a{number - 1}'] * 10)}]\n" for number in range(1, 9)
    )
    with pytest.raises(ModelsFileError, match="too much in this file"):
        read(path, bomb)


LACKING = [
    (Target("t", "openai", "m"), "OPENAI_API_KEY is not set; set it, or name another variable as api_key_env"),
    (Target("t", "openai", "m", api_key_env="TEAM_KEY"), ""),
    (Target("t", "openai", "m", api_key_env="NO_KEY"), "the variable NO_KEY, which is to hold the key, is not set"),
    (Target("t", "openai", "m", base_url="http://localhost:1/v1"), ""),
    (Target("t", "anthropic", "m"), ""),
    (Target("t", "anthropic", "m", api="responses"), "only openai has two APIs"),
    (Target("t", "mock", "m", base_url="http://localhost:1"), "mock is nowhere; leave base_url out"),
    (Target("t", "ollama", "m", api_key_env="TEAM_KEY"), "ollama takes no key here"),
    (Target("t", "ollama", "m"), ""),
    (Target("t", "bedrock", "m"), "AWS_REGION is not set"),
    (Target("t", "scripted", "m"), "SCRIPTED_RESPONSES_PATH is to name the JSON file"),
]


@pytest.mark.parametrize(("target", "told"), LACKING, ids=[f"{t.provider} {told[:20]}" for t, told in LACKING])
def test_what_a_target_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, target: Target, told: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "AWS_REGION", "SCRIPTED_RESPONSES_PATH", "NO_KEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".env").write_text("TEAM_KEY=sk-team\n")
    found = lacking(target, GatewaySettings(anthropic_api_key=SecretStr("sk-a")), variable)
    assert found.startswith(told) if told else found == ""


async def test_a_change_comes_into_force_and_a_wrong_one_does_not(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text(GOOD)
    in_force: list[ModelsConfig] = []
    failure: list[Exception] = []

    async def apply(config: ModelsConfig) -> None:
        if failure:
            raise failure.pop()
        in_force.append(config)

    def wrong() -> float:
        return WRONG._value.get()

    watch = ModelsWatch(path, lambda file: read_models(file, lambda target: ""), apply)
    assert watch.first() is not None
    await watch.look()
    assert in_force == []
    await watch.check()

    path.write_text(GOOD.replace("default: one", "default: nobody"))
    await watch.look()
    assert (in_force, wrong()) == ([], 1)
    said = [record.getMessage() for record in caplog.records]
    assert "line 4: aliases.default: there is no target 'nobody'" in said[-2]
    assert said[-1] == f"{path.name}: what it said before stays in force"
    with pytest.raises(FailedPreconditionError, match=r"line 4.*\n.what it said before is in force"):
        await watch.check()
    await watch.look()
    assert caplog.text.count("nobody") == 1, "it is said once"

    path.write_text(GOOD + "  second: one\n")
    await watch.look()
    assert [list(config.routes.aliases) for config in in_force if config.routes] == [["default", "second"]]
    assert wrong() == 0
    assert READ._value.get() > 0
    await watch.check()

    path.unlink()
    await watch.look()
    with pytest.raises(FailedPreconditionError, match="is gone"):
        await watch.check()
    for fault, told in ((StartError("no package"), "no package"), (KeyError("a bug"), "cannot be used: KeyError")):
        failure.append(fault)
        path.write_text(GOOD + f"# {told}\n")
        await watch.look()
        with pytest.raises(FailedPreconditionError, match=told):
            await watch.check()
    assert len(in_force) == 1


async def test_the_file_is_looked_at_again_and_again(path: Path) -> None:
    came = asyncio.Event()

    async def apply(config: ModelsConfig) -> None:
        came.set()

    watch = ModelsWatch(path, lambda file: read_models(file, lambda target: ""), apply, every_s=0.01)
    assert watch.first() is None
    await watch.start()
    path.write_text(GOOD)
    await asyncio.wait_for(came.wait(), 5)
    await watch.stop()
