"""Which images and files can be asked of a model at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagi_gateway.domain.content import PartKind, media_type_of
from pagi_gateway.domain.errors import InvalidPlanRequestError
from pagi_gateway.domain.model import Role

if TYPE_CHECKING:
    from pagi_gateway.domain.content import Part
    from pagi_gateway.domain.model import Message

_LONGEST_URL = 8192


def check_parts(message: Message, where: str) -> None:
    """Checks the parts of a message.

    Raises:
        InvalidPlanRequestError: One is empty, not what it says, or not this role's to send.
    """
    for index, part in enumerate(message.parts):
        field = f"{where}.parts[{index}]"
        if part.kind is PartKind.TEXT:
            continue
        if message.role in {Role.SYSTEM, Role.ASSISTANT}:
            raise InvalidPlanRequestError(
                f"only users and tools show images and files, this message is from the {message.role}", field=field
            )
        if part.url:
            _check_url(part.url, field)
        else:
            _check_data(part, field)


def _check_url(url: str, field: str) -> None:
    if not url.startswith("https://") or len(url) > _LONGEST_URL or any(character.isspace() for character in url):
        raise InvalidPlanRequestError(f"give an https URL, not {url[:80]!r}", field=f"{field}.url")


def _check_data(part: Part, field: str) -> None:
    if not part.data:
        raise InvalidPlanRequestError(f"the {part.kind} has neither bytes nor a URL", field=field)
    shown = media_type_of(part.data)
    if part.kind is PartKind.IMAGE and not shown.startswith("image/"):
        raise InvalidPlanRequestError("the bytes are no image: not PNG, JPEG, GIF or WebP", field=f"{field}.data")
    said = part.media_type
    if not said:
        raise InvalidPlanRequestError("say the file's media type, as in text/plain", field=f"{field}.media_type")
    if said != shown and (part.kind is PartKind.IMAGE or said == "application/pdf"):
        raise InvalidPlanRequestError(
            f"the bytes are {shown or 'something else'}, not {said}", field=f"{field}.media_type"
        )
