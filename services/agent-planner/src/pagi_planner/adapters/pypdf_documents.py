"""Text of PDF files by pypdf, in a process that has little time, little memory and none of ours."""

from __future__ import annotations

import asyncio
import sys

from pagi_planner.adapters import pypdf_text
from pagi_planner.domain.errors import UnreadableFileError

TIMEOUT_S = 30.0
# Each is a whole interpreter.
AT_ONCE = 2


class PypdfDocuments:
    """Reads PDF files.

    Args:
        timeout_s: For one file.
    """

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._places = asyncio.Semaphore(AT_ONCE)

    async def text_of_pdf(self, content: bytes) -> str:
        """The text, page by page.

        Raises:
            UnreadableFileError: It is damaged, encrypted, made of pictures, or takes too long.
        """
        async with self._places:
            # No environment: keys that this process holds are nothing that a file's reader may see.
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                pypdf_text.__file__,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={},
            )
            try:
                async with asyncio.timeout(self._timeout_s):
                    text, fault = await process.communicate(content)
            except TimeoutError:
                raise UnreadableFileError(f"it takes longer than {self._timeout_s:g} s to read") from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if process.returncode:
            said = fault.decode("utf-8", "replace").strip().splitlines()
            reason = said[-1][:300] if said else "its reader was ended"
            raise UnreadableFileError(f"it is no PDF that can be read: {reason}")
        return text.decode("utf-8", "replace")
