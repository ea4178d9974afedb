"""The sandbox: runs tools in child processes with limits.

A package that brings a tool of its own imports from here: see docs/sandbox.md.
"""

from __future__ import annotations

from pagi_sandbox.domain.tool import Effects, Permission, Tool, ToolContext, ToolFailedError

__all__ = ["Effects", "Permission", "Tool", "ToolContext", "ToolFailedError"]
