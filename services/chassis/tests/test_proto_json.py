from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct, Value
from pagi_chassis.proto_json import enum_from_json, enum_to_json, to_json


def test_every_field_is_there_by_its_name() -> None:
    assert to_json(FieldMask()) == {"paths": []}
    assert to_json(Struct(fields={"a": Value(number_value=1)}))["fields"]["a"] == {
        "null_value": None,
        "number_value": 1.0,
        "string_value": None,
        "bool_value": None,
        "struct_value": None,
        "list_value": None,
    }


def test_enums_lose_their_prefix_and_unknown_numbers_do_not_fail() -> None:
    modes = descriptor_pb2.FieldOptions.DESCRIPTOR.enum_types_by_name["CType"]
    assert enum_to_json(modes, 0) == ""
    assert enum_to_json(modes, 1) == "cord"
    assert enum_to_json(modes, 99) == "99"
    assert enum_from_json(modes, "cord") == 1
    with pytest.raises(ValueError, match="cord"):
        enum_from_json(modes, "rope")


def test_times_are_in_rfc_3339() -> None:
    pb = pytest.importorskip("pagi.memory.v1.memory_pb2", reason="the generated messages are not installed")
    turn = pb.Turn(role=pb.TURN_ROLE_TOOL_PLAN)
    turn.created_at.FromSeconds(1)
    assert to_json(turn) == {
        "role": "tool_plan",
        "text": "",
        "run_id": "",
        "position": 0,
        "created_at": "1970-01-01T00:00:01Z",
        "edited_at": None,
    }
