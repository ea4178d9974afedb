"""Messages as JSON for people: names as in the .proto, enum values in small letters, whole numbers as numbers.

Protobuf's own JSON writes 64-bit numbers as text and leaves out what is empty; a reader of an HTTP answer expects
neither.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
    from google.protobuf.message import Message


def to_json(message: Message) -> dict[str, Any]:
    """Every field of a message by its name; what is optional and not set is None, times are RFC 3339 in UTC."""
    fields: list[Any] = [*message.DESCRIPTOR.fields]
    return {field.name: _field(message, field) for field in fields}


def enum_to_json(descriptor: EnumDescriptor, number: int) -> str:
    """`PLAYBOOK_STATE_SET_ASIDE` as `set_aside`; the unspecified value is empty."""
    if number == 0:
        return ""
    value = descriptor.values_by_number.get(number)
    # One that a newer peer knows and this one does not.
    return value.name.removeprefix(_prefix(descriptor)).lower() if value else str(number)


def enum_from_json(descriptor: EnumDescriptor, text: str) -> int:
    """The number of a value as `enum_to_json` writes it.

    Raises:
        ValueError: There is no such value; the known ones are named.
    """
    by_text = {enum_to_json(descriptor, value.number): value.number for value in descriptor.values}
    if text not in by_text:
        raise ValueError(f"{text!r} is none of {', '.join(sorted(filter(None, by_text)))}")
    return by_text[text]


def _field(message: Message, field: FieldDescriptor) -> Any:
    if field.has_presence and not message.HasField(field.name):
        return None
    value = getattr(message, field.name)
    if not field.is_repeated:
        return _value(field, value)
    if field.message_type and field.message_type.GetOptions().map_entry:
        of_value = field.message_type.fields_by_name["value"]
        return {key: _value(of_value, each) for key, each in value.items()}
    return [_value(field, each) for each in value]


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type:
        return enum_to_json(field.enum_type, value)
    if field.message_type:
        if field.message_type.full_name == "google.protobuf.Timestamp":
            return value.ToJsonString()
        return to_json(value)
    return value


def _prefix(descriptor: EnumDescriptor) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", descriptor.name).upper() + "_"
