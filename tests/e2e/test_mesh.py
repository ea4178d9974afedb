"""What a user does with the mesh, over HTTP, against the real processes."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
import uuid

import pytest
from otlp_receiver import OtlpReceiver
from real_mesh import SERVICES, Mesh, eventually
from redis_server import Valkey


def test_the_harness_says_where_to_go(mesh: Mesh):
    assert f"http://127.0.0.1:{mesh.http['agent-planner']}" in mesh.output
    assert "curl" in mesh.output
    assert all(name in mesh.harness("--status") for name in SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_is_healthy_and_gives_metrics(mesh: Mesh, service: str):
    for path in ("/health", "/health/live", "/health/ready"):
        # On a busy machine a dependency may miss the second that it is given to answer.
        eventually(lambda path=path: mesh.ask(service, path).json["status"] == "ok", what=f"{path} of {service}")
    metrics = mesh.ask(service, "/metrics")
    assert metrics.status == 200
    if promtool := shutil.which("promtool"):
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=metrics.text, text=True, capture_output=True, check=False
        )
        # Style advice on the client library's own metrics is not ours to follow.
        ours = [line for line in checked.stderr.splitlines() if line.startswith("pagi_")]
        assert ours == []
        assert "error" not in checked.stderr.lower()


def test_arithmetic_is_calculated_by_the_math_tool(mesh: Mesh):
    answer = mesh.plan("What is (100 + 50) * 2?", session_id="demo")
    assert "300" in answer["result"]
    [step] = answer["steps"]
    assert (step["tool"], step["output"]["result"], step["error"]) == ("math", 300, None)
    assert answer["status"] == "completed"
    assert answer["degraded"] == []


def test_python_runs_in_the_sandbox(mesh: Mesh):
    answer = mesh.plan("run python: print(sum(i * i for i in range(10)))")
    assert answer["steps"][0]["output"]["stdout"] == "285\n"
    assert "285" in answer["result"]


def test_a_file_that_python_wrote_is_listed_and_downloaded(mesh: Mesh):
    session = f"files-{uuid.uuid4().hex}"
    answer = mesh.plan("run python: open('table.csv', 'w').write('a,b')", session_id=session)
    assert [file["path"] for file in answer["steps"][0]["output"]["files"]] == ["table.csv"]
    assert mesh.ask("agent-planner", f"/sessions/{session}/files").json["files"][0]["path"] == "table.csv"
    assert mesh.ask("agent-planner", f"/sessions/{session}/files/table.csv").text == "a,b"
    assert mesh.ask("agent-planner", f"/sessions/{session}/files/..%2f..%2fetc%2fpasswd").status in (404, 422)


def test_the_sandbox_tells_what_holds_a_tool(mesh: Mesh):
    isolation = mesh.ask("sandbox", "/health").json["isolation"]
    assert isolation["profile"] in ("L0", "L1", "L2", "L3")
    assert all(observation["held"] for observation in isolation["observations"]) or isolation["profile"] in ("L0", "L1")


def test_a_search_without_a_network_is_a_clear_tool_error(mesh: Mesh):
    answer = mesh.plan("search for the weather in Paris")
    assert answer["status"] == "completed"
    [step] = answer["steps"]
    assert step["tool"] == "web_search"
    assert "WEB_SEARCH_PROVIDER" in step["error"]
    assert "web_search" in answer["result"]


def test_two_independent_calls_are_made_in_one_turn(mesh: Mesh):
    answer = mesh.plan("What is 6*7? note to PROP-1: reviewed")
    assert {step["tool"] for step in answer["steps"]} == {"math", "governance_note"}
    assert "42" in answer["result"]


def test_a_fact_of_a_file_is_answered_with_its_source(mesh: Mesh):
    answer = mesh.plan("How long does one append to the journal take?")
    assert "35 microseconds" in answer["result"]
    assert "Domain-KB/runs-and-journal.md" in [source["source"] for source in answer["sources"] if source["cited"]]


def test_a_persona_answers_from_its_own_knowledge(mesh: Mesh):
    answer = mesh.plan("How hard does Barky grip the ball in fetch?", persona="companion-dog")
    cited = {source["source"] for source in answer["sources"] if source["cited"]}
    assert cited
    assert all(source.startswith("personas/companion-dog/") for source in cited)


def test_the_second_turn_needs_the_first(mesh: Mesh):
    session = f"two-turns-{uuid.uuid4().hex}"
    mesh.plan("My name is Ada.", session_id=session)
    assert "Ada" in mesh.plan("What is my name?", session_id=session)["result"]
    assert "Ada" not in mesh.plan("What is my name?", session_id=f"{session}-other")["result"]
    latest = mesh.ask("memory", f"/memory/latest?session_id={session}").json
    assert [turn["text"] for turn in latest["turns"] if turn["role"] == "user"] == [
        "My name is Ada.",
        "What is my name?",
    ]


def roots_of(receiver: OtlpReceiver, trace_id: str) -> list[str]:
    """The names of the spans whose parent is not there."""
    spans = {span.span_id: span for span in receiver.of_trace(trace_id)}
    return [span.name for span in spans.values() if span.parent_id not in spans]


def test_one_trace_id_joins_answer_audit_log_notification_and_spans(mesh: Mesh, receiver: OtlpReceiver):
    trace_id = uuid.uuid4().hex
    answer = mesh.ask("agent-planner", "/plan", {"prompt": "What is 1 + 1?"}, X_Trace_ID=trace_id)
    assert answer.headers["X-Trace-ID"] == answer.json["trace_id"] == trace_id
    audit = mesh.audit(trace_id)
    assert (audit[0], audit[-1]) == ("PLAN_START", "PLAN_END")
    eventually(lambda: mesh.log("notification-subscriber").count(trace_id) >= 2, what="the notifications")
    eventually(
        lambda: {span.service for span in receiver.of_trace(trace_id)} == set(SERVICES), what="a span of each service"
    )
    # A parent ends after its children, and comes with a later batch where it must.
    eventually(lambda: roots_of(receiver, trace_id) == ["POST /plan"], what="the parents of all spans")
    spans = {span.span_id: span for span in receiver.of_trace(trace_id)}
    edges = {(spans[s.parent_id].service, s.service) for s in spans.values() if s.parent_id in spans}
    assert {("agent-planner", name) for name in SERVICES} <= edges


def test_runs_can_be_looked_up(mesh: Mesh):
    answer = mesh.plan("What is 2 + 2?", session_id="lookup")
    run = mesh.ask("agent-planner", f"/runs/{answer['run_id']}").json
    assert run == answer
    listed = mesh.ask("agent-planner", "/runs?session_id=lookup").json["runs"]
    assert [(each["run_id"], each["status"]) for each in listed] == [(answer["run_id"], "completed")]
    assert mesh.ask("agent-planner", "/runs/nix").status == 404


def test_the_end_to_end_audit_passes(mesh: Mesh):
    done = subprocess.run(
        ["bash", "scripts/verify_e2e_audit.sh", "--bare-metal"],
        cwd=mesh.root,
        env=mesh.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("service", ["sandbox", "model-gateway", "memory"])
def test_a_service_killed_and_restarted_is_used_again_at_once(mesh: Mesh, service: str):
    others = {name: mesh.pid(name) for name in SERVICES if name != service}
    mesh.signal(service, signal.SIGKILL)
    killed = time.monotonic()
    eventually(lambda: mesh.ask(service, "/health/ready").status == 200, what=f"{service} after the kill")
    ready_s = time.monotonic() - killed

    def works() -> bool:
        answer = mesh.plan("What is 3 + 4?")
        return answer["degraded"] == [] and "7" in answer["result"]

    eventually(works, what="a whole answer")
    assert time.monotonic() - killed - ready_s < 2.0
    assert {name: mesh.pid(name) for name in others} == others
    assert re.search(rf"{service}.*", mesh.harness("--status"))


def test_a_run_goes_on_when_its_planner_is_killed(mesh: Mesh):
    def run_of(session_id: str) -> dict:
        [run] = mesh.ask("agent-planner", f"/runs?session_id={session_id}").json["runs"]
        return run

    mesh.signal("sandbox", signal.SIGSTOP)
    try:
        with pytest.raises(OSError):  # noqa: PT011 - the connection breaks in one of several ways
            _ask_and_kill(mesh)
    finally:
        mesh.signal("sandbox", signal.SIGCONT)
    eventually(lambda: mesh.ask("agent-planner", "/health/ready").status == 200, what="the planner")
    eventually(lambda: run_of("killed")["status"] != "running", what="the end of the run")
    run = mesh.ask("agent-planner", f"/runs/{run_of('killed')['run_id']}").json
    assert run["status"] == "completed"
    assert [step["tool"] for step in run["steps"]] == ["math"]
    assert "10" in run["result"]


def _ask_and_kill(mesh: Mesh) -> None:
    """Kills the planner while its run waits for a tool that hangs."""
    import threading

    def kill_when_it_waits() -> None:
        eventually(lambda: mesh.ask("agent-planner", "/runs?session_id=killed").json["runs"], what="the run")
        mesh.signal("agent-planner", signal.SIGKILL)

    killer = threading.Thread(target=kill_when_it_waits)
    killer.start()
    try:
        mesh.plan("What is 5 + 5?", session_id="killed")
    finally:
        killer.join()


def test_memory_that_hangs_costs_the_context_and_not_the_turn(mesh: Mesh):
    session = f"hang-{uuid.uuid4().hex}"
    mesh.signal("memory", signal.SIGSTOP)
    try:
        answer = mesh.plan("My colour is teal.", session_id=session, timeout_s=60)
    finally:
        mesh.signal("memory", signal.SIGCONT)
    assert answer["degraded"] == ["memory"]
    assert answer["status"] == "completed"
    eventually(
        lambda: "teal" in mesh.ask("memory", f"/memory/latest?session_id={session}").text,
        timeout_s=30,
        what="the turn in memory",
    )


def test_redis_away_is_noticed_by_nobody_and_nothing_is_lost(mesh: Mesh, valkey: Valkey):
    valkey.kill()
    trace_id = uuid.uuid4().hex
    began = time.monotonic()
    answer = mesh.ask("agent-planner", "/plan", {"prompt": "What is 8 * 8?"}, X_Trace_ID=trace_id)
    assert answer.status == 200
    assert answer.json["degraded"] == []
    assert time.monotonic() - began < 2.0
    health = mesh.ask("agent-planner", "/health")
    assert (health.status, health.json["status"]) == (200, "degraded")
    assert trace_id not in mesh.log("notification-subscriber")
    valkey.start()
    eventually(lambda: mesh.log("notification-subscriber").count(trace_id) >= 2, timeout_s=30, what="what was kept")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 10_000_000}, "prompt"),
        ({"prompt": "hi", "colour": "red"}, "colour"),
        ({"prompt": "hi", "session_id": "../../etc/passwd"}, "session_id"),
        ({"prompt": "hi", "tools": ["math", "nix"]}, "tools[1]"),
        ({"prompt": "hi", "persona": "nobody"}, "persona"),
        ({"prompt": "hi", "model": "nothing"}, "model"),
        (["not an object"], "body"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rubbish_is_answered_with_a_problem_that_names_the_field(mesh: Mesh, body, field):
    answer = mesh.ask("agent-planner", "/plan", body)
    assert answer.status == 422, answer.text[:500]
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert field in [fault["field"] for fault in answer.json["errors"]]
    assert "Traceback" not in answer.text
