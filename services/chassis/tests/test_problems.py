"""Failures as problem documents: one for every type of error, and for those of the framework."""

from __future__ import annotations

import json

import pytest
from pagi_chassis import correlation, problems
from pagi_chassis.errors import InternalError, InvalidArgumentError, ResourceExhaustedError
from pagi_chassis.statuses import STATUSES
from starlette.exceptions import HTTPException


def document(response) -> dict:
    assert response.media_type == problems.MEDIA_TYPE == "application/problem+json"
    return json.loads(response.body)


@pytest.mark.parametrize("row", STATUSES, ids=lambda row: row.error.__name__)
def test_every_error_has_its_document(row):
    with correlation.bind(trace_id="t-1"):
        response = problems.problem_of(row.error("what is wrong"))
    body = document(response)
    assert (response.status_code, body["status"], body["title"]) == (row.http, row.http, row.title)
    assert (body["type"], body["trace_id"]) == ("about:blank", "t-1")
    assert body["error"] == body["detail"]
    assert body["detail"] == (
        "what is wrong" if row.error is not InternalError else document(problems.unexpected())["detail"]
    )
    assert set(body) == {"type", "title", "status", "detail", "trace_id", "error"}


def test_a_fault_names_its_field_and_the_run_is_named_where_one_is_bound():
    with correlation.bind(trace_id="t", run_id="run-1"):
        body = document(problems.problem_of(InvalidArgumentError("no such tool", field="tools[1]")))
    assert body["errors"] == [{"field": "tools[1]", "message": "no such tool"}]
    assert body["run_id"] == "run-1"


@pytest.mark.parametrize(("after_s", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (30, "30")])
def test_retry_after_is_rounded_up_to_whole_seconds(after_s, header):
    response = problems.problem_of(ResourceExhaustedError("busy", retry_after_s=after_s))
    assert response.headers["retry-after"] == header


def test_who_is_not_known_is_told_how_to_become_so():
    [row] = [row for row in STATUSES if row.http == 401]
    assert problems.problem_of(row.error("unauthenticated")).headers["www-authenticate"] == "Bearer"


def test_what_another_service_says_of_its_own_fault_is_not_passed_on():
    assert b"secret" not in problems.problem_of(InternalError("secret detail")).body


@pytest.mark.parametrize(("status", "fields"), [(404, []), (405, []), (400, ["body"]), (413, ["body"]), (499, [])])
def test_errors_of_the_framework_keep_their_status_and_headers(status, fields):
    response = problems.problem_of_http(HTTPException(status, "what", {"Allow": "GET"}))
    body = document(response)
    assert (response.status_code, body["detail"], response.headers["allow"]) == (status, "what", "GET")
    assert [fault["field"] for fault in body.get("errors", [])] == fields
