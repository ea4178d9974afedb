"""The OpenAPI document is complete and true: requests made from it, right and wrong, are answered as it says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from pagi_chassis.errors import ResourceExhaustedError
from pagi_chassis.http_server import HttpServer
from pagi_planner.adapters.sqlite_journal import SqliteJournal
from pagi_planner.domain.errors import UnknownModelError
from pagi_planner.domain.model import Passage
from pagi_planner.testing import call, calling, saying
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance


@schemathesis.serializer("application/x-ndjson")
def lines(_, value):
    """JSON Lines are any text to the planner: memory reads them."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


class ModelOfMoods:
    """Answers, calls a tool, fails: what it does depends on the prompt, so that a failure can be found again."""

    async def answer(self, request):
        if request.messages[-1].role == "tool":
            return saying("done")
        mood = sum(map(ord, request.messages[-1].text)) % 8
        if mood == 1:
            raise ResourceExhaustedError("slow down")
        if mood == 2:
            raise UnknownModelError("there is no such model", field="model")
        if mood == 3:
            return calling(call("add", {"a": 1, "b": 2}))
        return saying("hello", cost_usd=0.5 if mood == 4 else None)


@pytest.fixture(scope="module")
def api(tmp_path_factory, planner_over, archive) -> Iterator[str]:
    """A planner over fakes, served in a thread of its own; its address."""
    address: list[str] = []
    served, done = threading.Event(), threading.Event()

    async def serve() -> None:
        journal = SqliteJournal(tmp_path_factory.mktemp("journal") / "audit.db")
        await journal.start()
        planner = planner_over(journal, model=ModelOfMoods())
        planner.archive = archive
        planner.memory.passages = [Passage("p", "text", 0.5, "Domain-KB", "Domain-KB/a.md", ("A",))]
        server = HttpServer(planner.app(), "127.0.0.1", 0)
        await server.start()
        address.append(f"http://127.0.0.1:{server.port}")
        served.set()
        await asyncio.to_thread(done.wait)
        await server.stop()
        await planner.runs.stop(1)
        await journal.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert served.wait(10)
    yield address[0]
    done.set()
    thread.join()


@pytest.fixture(scope="module")
def document(api: str):
    return schemathesis.openapi.from_url(f"{api}/openapi.json")


OPERATIONS = [
    ("post", "/plan"),
    ("post", "/run"),
    ("get", "/runs"),
    ("get", "/runs/{run_id}"),
    ("post", "/runs/{run_id}/fork"),
    ("get", "/runs/{run_id}/timeline"),
    ("get", "/runs/{run_id}/events"),
    ("post", "/runs/{run_id}/cancel"),
    ("post", "/runs/{run_id}/approvals/{call_id}"),
    ("post", "/api/chat/stream"),
    ("get", "/sessions/{session_id}/files"),
    ("get", "/sessions/{session_id}/files/{path}"),
    ("get", "/memory/sessions"),
    ("get", "/memory/sessions/{session_id}"),
    ("patch", "/memory/sessions/{session_id}"),
    ("delete", "/memory/sessions/{session_id}"),
    ("get", "/memory/sessions/{session_id}/turns"),
    ("patch", "/memory/sessions/{session_id}/turns/{run_id}/{position}"),
    ("delete", "/memory/sessions/{session_id}/turns/{run_id}/{position}"),
    ("get", "/memory/history/search"),
    ("get", "/memory/history/export"),
    ("post", "/memory/history/import"),
    ("get", "/memory/history/statistics"),
    ("get", "/memory/playbooks"),
    ("get", "/memory/playbooks/{playbook_id}"),
    ("patch", "/memory/playbooks/{playbook_id}"),
    ("delete", "/memory/playbooks/{playbook_id}"),
    ("get", "/memory/documents"),
    ("get", "/memory/documents/{source}"),
    ("put", "/memory/documents/{source}"),
    ("delete", "/memory/documents/{source}"),
    ("get", "/memory/search"),
    ("get", "/memory/knowledge"),
    ("get", "/health"),
    ("get", "/health/live"),
    ("get", "/health/ready"),
    ("get", "/metrics"),
]


def test_every_operation_is_tried(document):
    operations = [(result.ok().method, result.ok().path) for result in document.get_all_operations()]
    assert sorted(operations) == sorted(OPERATIONS)


RIGHT_AND_WRONG = [(*operation, GenerationMode.POSITIVE) for operation in OPERATIONS] + [
    # Nothing about the other requests can be wrong.
    (*operation, GenerationMode.NEGATIVE)
    for operation in OPERATIONS
    if not operation[1].startswith(("/health", "/metrics", "/memory/history/import"))
]


@pytest.mark.parametrize(("method", "path", "mode"), RIGHT_AND_WRONG)
def test_every_answer_is_as_the_document_says(document, method, path, mode):
    @settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(document[path][method].as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        response = case.call()
        # Headers that are none do not come as far as the application.
        if response.text != "Invalid HTTP request received.":
            # A request may be right by the document and name a tool or a persona that is not there.
            case.validate_response(response, excluded_checks=[positive_data_acceptance])

    check()
