"""Bodies of the files in a session's workspace."""

from __future__ import annotations

from pydantic import BaseModel, Field

from pagi_planner.domain.model import FileList


class FileBody(BaseModel):
    """A file that tools left in a session's workspace."""

    path: str = Field(description="Below the workspace.")
    media_type: str
    size_bytes: int


class FileListBody(BaseModel):
    """The files of a session."""

    session_id: str
    files: list[FileBody] = Field(description="By path.")
    used_bytes: int = Field(description="Of the whole workspace, as the disk counts them.")
    quota_bytes: int
    truncated: bool = Field(description="Whether there are more files than are listed.")

    @classmethod
    def from_domain(cls, session_id: str, files: FileList) -> FileListBody:
        """The list as JSON."""
        return cls(
            session_id=session_id,
            files=[
                FileBody(path=each.path, media_type=each.media_type, size_bytes=each.size_bytes) for each in files.files
            ],
            used_bytes=files.used_bytes,
            quota_bytes=files.quota_bytes,
            truncated=files.truncated,
        )
