"""The sandbox's variables; the only place that reads the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self

from pagi_chassis.settings import ENV_FILE, ServiceSettings
from pydantic import AliasChoices, Field, field_validator, model_validator

from pagi_sandbox.domain.limits import LOWEST, NAMES, LimitPolicy
from pagi_sandbox.domain.model import Limits
from pagi_sandbox.domain.web.addresses import parse_allowed


class SandboxSettings(ServiceSettings):
    """What an operator may set."""

    sandbox_port: int = Field(
        default=8001,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("SANDBOX_PORT", "RUST_SANDBOX_PORT"),
        description="HTTP port of the sandbox: health and metrics.",
    )
    sandbox_grpc_port: int = Field(
        default=50053,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("SANDBOX_GRPC_PORT", "RUST_SANDBOX_GRPC_PORT"),
        description="gRPC port of the sandbox.",
    )
    sandbox_workspaces_dir: Path = Field(
        default=Path("data/workspaces"), description="Where each session's files are kept."
    )
    sandbox_db_path: Path = Field(default=Path("data/sandbox.db"), description="SQLite file of the governance notes.")
    sandbox_tools_path: tuple[str, ...] = Field(
        default=(),
        description="More directories with packages that bring tools, separated as in PATH. "
        "Packages installed beside the sandbox are found without it.",
    )
    sandbox_enable_shell: bool = Field(
        default=False, description="Whether there is a tool that runs command lines, in the same jail as python."
    )
    sandbox_preload: tuple[str, ...] = Field(
        default=(),
        description="Modules that python finds loaded, separated by commas, for example numpy,pandas; "
        "install them beside the sandbox. Each makes every call a little slower and its first use at once.",
    )
    sandbox_python_backend: Literal["jail", "monty"] = Field(
        default="jail",
        description="What python runs in: jail, a whole interpreter, which needs profile L1; monty, the small "
        "interpreter of pydantic-monty (the extra monty of pagi-sandbox), which L0 will do for. See docs/sandbox.md.",
    )
    sandbox_approval_tools: tuple[str, ...] = Field(
        default=(),
        description="Tools of which a person has to allow each call, separated by commas; "
        "* stands for anything, for example shell,github.*",
    )
    sandbox_default_timeout_ms: int = Field(default=10_000, description="Wall time of a tool call, in milliseconds.")
    sandbox_max_timeout_ms: int = Field(default=120_000, description="The most that a call may ask for.")
    sandbox_default_memory_mb: int = Field(default=512, description="Address space of a tool's process, in MiB.")
    sandbox_max_memory_mb: int = Field(default=2048, description="The most that a call may ask for.")
    sandbox_default_output_bytes: int = Field(default=262_144, description="Bytes that a tool may print.")
    sandbox_max_output_bytes: int = Field(
        default=4_194_304, le=6_291_456, description="The most that a call may ask for; at most 6 MiB."
    )
    sandbox_default_cpu_ms: int = Field(
        default=20_000,
        description="Processor time of a tool call, in milliseconds; a call that asks for a longer wall time has that.",
    )
    sandbox_max_cpu_ms: int = Field(default=240_000, description="The most that a call may ask for.")
    sandbox_default_disk_mb: int = Field(
        default=128, description="What a tool call may add to its workspace and its /tmp, in MiB."
    )
    sandbox_max_disk_mb: int = Field(default=1024, description="The most that a call may ask for.")
    sandbox_default_processes: int = Field(default=64, description="Processes and threads of a tool call at once.")
    sandbox_max_processes: int = Field(default=256, description="The most that a call may ask for.")
    sandbox_workspace_quota_mb: int = Field(
        default=256, ge=1, description="What a session's workspace may hold, in MiB."
    )
    sandbox_workspace_max_files: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Files and directories that a session's workspace may hold."
    )
    sandbox_workspace_max_age_hours: float = Field(
        default=720.0,
        ge=0,
        description="A workspace or to-do list that was not used for so long goes; 0: never.",
    )
    sandbox_ledger_path: Path = Field(
        default=Path("data/sandbox_effects.db"),
        description="SQLite file with the results of calls, by which a repeat is recognised.",
    )
    sandbox_ledger_max_age_hours: float = Field(default=24.0, gt=0, description="How long results are kept.")
    sandbox_ledger_max_mb: int = Field(
        default=128, ge=1, description="What all results may take together, in MiB; the oldest go first."
    )
    sandbox_max_file_mb: int = Field(default=64, ge=1, description="The largest file that a tool may write, in MiB.")
    sandbox_profile: Literal["auto", "L0", "L1", "L2", "L3"] = Field(
        default="auto",
        description="The highest isolation to use: auto takes the highest that the system grants. See docs/sandbox.md.",
    )
    sandbox_minimum_profile: Literal["L0", "L1", "L2", "L3"] = Field(
        default="L0",
        description="No tool is run under less isolation than this; each tool has a minimum of its own besides.",
    )
    sandbox_backend: Literal["native", "bubblewrap"] = Field(
        default="native",
        description="What isolates tools: native, the sandbox's own jail; bubblewrap, the program bwrap with the "
        "sandbox's filter, which has to be installed and allowed to make user namespaces. See docs/sandbox.md.",
    )
    sandbox_spares: int = Field(
        default=2, ge=0, le=32, description="Jailed processes that wait ahead of calls; each takes about 3 MiB."
    )
    sandbox_uids: str = Field(
        default="1900000000-2099999999",
        pattern=r"^(\d{4,10}-\d{4,10})?$",
        description="Where the sandbox runs as root: the user numbers, first-last, that sessions' tools get. "
        "Empty: they run as the service's user, without its capabilities.",
    )
    sandbox_cgroup: str = Field(
        default="",
        description="A cgroup v2 folder that is delegated to the sandbox and holds no process, for totals of memory "
        "and processes. Empty: it looks for one.",
    )
    sandbox_max_concurrent_calls: int = Field(default=8, ge=1, description="Tool calls that run at once.")
    sandbox_max_waiting_calls: int = Field(
        default=256, ge=0, description="Tool calls that wait for their turn; more are refused at once."
    )
    web_search_provider: Literal["none", "searxng"] = Field(
        default="none", description="Who answers web_search: none, or searxng (needs SEARXNG_URL)."
    )
    searxng_url: str = Field(
        default="",
        description="Address of a SearXNG instance that allows the JSON format; it may be on a private network.",
    )
    sandbox_mcp_config: Path | None = Field(
        default=None,
        description="File of MCP servers, in the mcpServers shape that desktop clients use; see docs/sandbox.md.",
    )
    sandbox_mcp_homes_dir: Path = Field(
        default=Path("data/mcp"), description="Where each MCP server that is started here has its private directory."
    )
    sandbox_mcp_uids: str = Field(
        default="2100000000-2139999999",
        pattern=r"^(\d{4,10}-\d{4,10})?$",
        description="Where the sandbox runs as root: the user numbers, first-last, that MCP servers get, each one of "
        "its own, apart from SANDBOX_UIDS. Empty: they run as the service's user, without its capabilities.",
    )
    sandbox_fetch_allow: tuple[str, ...] = Field(
        default=(),
        description="Hosts off the public Internet that fetch_url may read all the same, as host:port, separated by "
        "commas, for example 127.0.0.1:8080.",
    )

    @field_validator("sandbox_tools_path", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @field_validator("sandbox_preload", "sandbox_approval_tools", "sandbox_fetch_allow", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("sandbox_uids", "sandbox_mcp_uids")
    @classmethod
    def _range(cls, value: str) -> str:
        if value:
            first, last = map(int, value.split("-"))
            # Below 1000 are the system's own users; 4294967295 stands for none.
            if not 1000 <= first <= last < 4_294_967_295:
                raise ValueError("the first number is to be 1000 or more, the last no smaller, below 4294967295")
        return value

    @field_validator("sandbox_mcp_config", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return value or None

    @field_validator("sandbox_fetch_allow")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(parse_allowed(entry) for entry in value)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in NAMES:
            lowest, default, highest = (getattr(LOWEST, name), self._limit("default", name), self._limit("max", name))
            if not lowest <= default <= highest:
                raise ValueError(
                    f"SANDBOX_DEFAULT_{name.upper()} is {default}; allowed are {lowest} "
                    f"to SANDBOX_MAX_{name.upper()}, which is {highest}"
                )
        _check_users(self.sandbox_uids, self.sandbox_mcp_uids)
        if self.sandbox_backend == "bubblewrap" and self.sandbox_profile in {"L0", "L1"}:
            raise ValueError(
                f"SANDBOX_PROFILE={self.sandbox_profile} goes with SANDBOX_BACKEND=native only; bubblewrap has "
                "namespaces at least, which is L2"
            )
        if self.web_search_provider == "searxng" and not self.searxng_url.startswith(("http://", "https://")):
            raise ValueError(
                "WEB_SEARCH_PROVIDER=searxng needs SEARXNG_URL, an address that begins with http:// or https://"
            )
        return self

    @property
    def limit_policy(self) -> LimitPolicy:
        """The operator's defaults and maxima."""
        return LimitPolicy(
            default=Limits(**{name: self._limit("default", name) for name in NAMES}),
            maximum=Limits(**{name: self._limit("max", name) for name in NAMES}),
        )

    @property
    def private_paths(self) -> dict[str, str]:
        """What no tool may see but by the service, by the variable that says where it is; absolute."""
        paths: dict[str, Path | None] = {
            "SANDBOX_WORKSPACES_DIR": self.sandbox_workspaces_dir,
            "SANDBOX_DB_PATH": self.sandbox_db_path,
            "SANDBOX_LEDGER_PATH": self.sandbox_ledger_path,
            "SANDBOX_MCP_CONFIG": self.sandbox_mcp_config,
            "SANDBOX_MCP_HOMES_DIR": self.sandbox_mcp_homes_dir,
            "TLS_SERVER_KEY_PATH": self.tls_server_key_path,
            "TLS_CLIENT_KEY_PATH": self.tls_client_key_path,
            "the file with the settings": ENV_FILE if ENV_FILE.is_file() else None,
        }
        return {name: str(path.absolute()) for name, path in paths.items() if path is not None}

    @property
    def configurations(self) -> dict[str, dict[str, Any]]:
        """What single tools are told with each call, and no other tool's process knows."""
        searxng = {"searxng_url": self.searxng_url} if self.web_search_provider == "searxng" else {}
        return {"web_search": searxng, "fetch_url": {"allow": list(self.sandbox_fetch_allow)}}

    def _limit(self, kind: str, name: str) -> int:
        return int(getattr(self, f"sandbox_{kind}_{name}"))


def _check_users(sessions: str, servers: str) -> None:
    """What one session or server may reach, no other may by its number."""
    if not servers:
        return
    first, last = map(int, servers.split("-"))
    if last - first < 999:
        raise ValueError("SANDBOX_MCP_UIDS has to hold 1000 numbers at least, so that servers keep theirs")
    if sessions:
        others = tuple(map(int, sessions.split("-")))
        if first <= others[1] and others[0] <= last:
            raise ValueError(f"SANDBOX_MCP_UIDS={servers} overlaps with SANDBOX_UIDS={sessions}")
