"""The table: what each program may come to, and which layer stands in its way.

A case holds if nothing was achieved (by its own word and by a look from outside) and the verdict is one of those
expected. `closed_by` names the layers of which any one is enough; where none of them is active the case is listed as
let through, with their names, and its verdict is not judged. No name: it must hold everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"
LIMITS = {
    "timeout_ms": 8000,
    "memory_mb": 256,
    "output_bytes": 65_536,
    "cpu_ms": 8000,
    "disk_mb": 16,
    "processes": 32,
}
# Of those that are to be stopped by it; the others are given time, because the machine may be busy.
SHORT_MS = 300

# The layers, as GetIsolation names them. "unprivileged" is seen from a call's user: its number is not 0.
LANDLOCK, SECCOMP, SCOPE, SESSION_USER = "landlock", "seccomp", "scoped kill", "user per session"
NAMESPACES, CGROUPS, UNPRIVILEGED = "namespaces", "cgroups", "unprivileged"

FILES = (LANDLOCK, NAMESPACES)
# What permissions keep from a user of the session's own, and Landlock or a /proc of its own from everybody.
OTHERS = (LANDLOCK, NAMESPACES, SESSION_USER)
PROCESSES = (SECCOMP, NAMESPACES, SESSION_USER)
SIGNALS = (SCOPE, NAMESPACES, SESSION_USER)
TREE = (SCOPE, NAMESPACES)
SOCKETS = (SECCOMP, NAMESPACES)
TCP = (LANDLOCK, SECCOMP, NAMESPACES)
KERNEL = (SECCOMP,)
ROOTS = (SECCOMP, UNPRIVILEGED)
METADATA = (SECCOMP, NAMESPACES)
OWNED = (SECCOMP, NAMESPACES, SESSION_USER)


@dataclass(frozen=True)
class Case:
    """One program.

    Attributes:
        name: "<category>/<file>".
        closed_by: layers, any of which holds it.
        verdicts: what may end it where it holds.
        limits: where they are not LIMITS.
        then: calls of other tools on the workspace it leaves, as (tool, arguments); none may give a secret away, hang
            or change anything outside.
        during: the same, again and again while it runs.
        alone: run when nothing else does, because it takes what others need.
        needs: layers, without any of which an ordinary program does not work.
    """

    name: str
    closed_by: tuple[str, ...] = ()
    verdicts: frozenset[str] = frozenset({"OK"})
    limits: Mapping[str, int] = field(default_factory=dict)
    then: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    during: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    alone: bool = False
    needs: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The program."""
        return (PROGRAMS / f"{self.name}.py").read_text(encoding="utf-8")

    @property
    def all_limits(self) -> dict[str, int]:
        """The limits of its call."""
        short = {"timeout_ms": SHORT_MS} if "TIMEOUT" in self.verdicts else {}
        return {**LIMITS, **short, **self.limits}

    @property
    def ordinary(self) -> bool:
        """It has to work."""
        return self.name.startswith("ordinary/")


def _case(name: str, closed_by: tuple[str, ...] = (), verdicts: str = "OK", **rest: Any) -> Case:
    return Case(name, closed_by, frozenset(verdicts.split()), **rest)


def _read(path: str) -> tuple[str, Mapping[str, Any]]:
    return "read_file", {"path": path}


def _write(path: str) -> tuple[str, Mapping[str, Any]]:
    return "write_file", {"path": path, "content": "changed"}


_LIST = ("list_files", {})

SECRETS = (
    _case("secrets/file_outside", FILES),
    _case("secrets/folder_outside", FILES),
    _case("secrets/etc_shadow", (*FILES, UNPRIVILEGED)),
    _case("secrets/environment"),
    _case("secrets/environment_of_service", OTHERS),
    _case("secrets/environment_of_everyone", OTHERS),
    _case("secrets/command_lines", FILES),
    _case("secrets/memory_of_service", OTHERS),
    _case("secrets/process_vm_readv", PROCESSES),
    _case("secrets/own_memory"),
    _case("secrets/inherited_descriptors"),
    _case("secrets/descriptor_directory"),
    _case("secrets/spare_descriptors"),
    _case("secrets/workspace_of_other_session", OTHERS),
    _case("secrets/workspace_of_other_by_dotdot", OTHERS),
    _case("secrets/proc_links", OTHERS),
    _case("secrets/reopened_descriptors", OTHERS),
    _case("secrets/pidfd_getfd", PROCESSES),
    _case("secrets/database_of_service", FILES),
    _case("secrets/open_by_handle", (SECCOMP, UNPRIVILEGED)),
    _case("secrets/symlink_in_proc_self", FILES),
    _case("secrets/core_dump", verdicts="CRASH"),
    _case("secrets/shell_reads", FILES),
    _case("secrets/jailer", FILES),
    _case("secrets/shared_input"),
    _case("secrets/shared_input_of_next"),
    _case("secrets/shared_mappings"),
    _case("secrets/mounts_of_machine", FILES),
)
NETWORK = (
    _case("network/tcp_loopback", TCP),
    _case("network/tcp_ipv6", TCP),
    _case("network/tcp_own_service", TCP),
    _case("network/tcp_fastopen", SOCKETS),
    _case("network/mptcp", SOCKETS),
    _case("network/udp", SOCKETS),
    _case("network/dns_query", SOCKETS),
    _case("network/resolver", SOCKETS),
    _case("network/unix_path", METADATA),
    _case("network/unix_abstract", (*SOCKETS, SCOPE)),
    _case("network/docker_socket", METADATA),
    _case("network/sockets_of_fork_server", (SECCOMP,)),
    _case("network/netlink", (SECCOMP,)),
    _case("network/tables_of_machine", FILES),
    _case("network/vsock", KERNEL),
    _case("network/raw_and_packet", (SECCOMP, UNPRIVILEGED)),
    _case("network/rare_families", KERNEL),
    _case("network/listen", TCP),
    _case("network/cloud_metadata", TCP),
    _case("network/library_clients", TCP),
    _case("network/subprocess_client", TCP),
    _case("network/descriptors_over_channel"),
)
RESOURCES = (
    _case("resources/fork_bomb", verdicts="OK PROCESSES", alone=True),
    _case("resources/fork_bomb_branching", verdicts="OK PROCESSES FAILED", alone=True),
    _case("resources/threads", verdicts="OK PROCESSES", alone=True),
    _case("resources/memory_objects", verdicts="MEMORY"),
    _case("resources/memory_one_block", verdicts="MEMORY"),
    _case("resources/memory_mapped", verdicts="OK MEMORY"),
    _case("resources/memory_by_children", verdicts="OK MEMORY", limits={"memory_mb": 128}, alone=True),
    _case("resources/memory_shared", verdicts="OK MEMORY", limits={"memory_mb": 128}, alone=True),
    _case("resources/memfd", (SECCOMP, CGROUPS), "OK MEMORY"),
    _case("resources/descriptors"),
    _case("resources/pipe_buffers"),
    _case("resources/disk_one_file", verdicts="OK DISK"),
    _case("resources/disk_many_files", verdicts="DISK"),
    _case("resources/disk_inodes", verdicts="DISK"),
    _case("resources/disk_allocated", verdicts="OK DISK"),
    _case("resources/tmp", FILES, "OK DISK"),
    _case("resources/private_folder", verdicts="OK DISK"),
    _case("resources/private_folder_deep", verdicts="OK DISK"),
    _case("resources/private_folder_names", verdicts="OK DISK", limits={"disk_mb": 2}),
    _case("resources/deleted_files", verdicts="DISK"),
    _case("resources/deleted_files_mapped", verdicts="DISK"),
    _case("resources/deleted_files_in_messages", verdicts="DISK"),
    _case("resources/deleted_files_of_closed_program", verdicts="OK DISK"),
    _case("resources/dev_shm", FILES),
    _case("resources/sysv_memory", SOCKETS),
    _case("resources/sysv_semaphores_and_queues", SOCKETS),
    _case("resources/posix_queue", SOCKETS),
    _case("resources/output_stdout", verdicts="OUTPUT"),
    _case("resources/output_stderr", verdicts="OUTPUT"),
    _case("resources/output_both", verdicts="OUTPUT"),
    _case("resources/output_lines", verdicts="OUTPUT"),
    _case("resources/deep_recursion"),
    _case("resources/native_recursion", verdicts="CRASH MEMORY FAILED"),
    _case("resources/parser_nesting", verdicts="OK MEMORY"),
    _case("resources/zip_bomb", verdicts="MEMORY", limits={"memory_mb": 128}),
    _case("resources/regex", verdicts="TIMEOUT"),
    _case("resources/big_power", verdicts="TIMEOUT MEMORY"),
    _case("resources/all_processors", verdicts="TIMEOUT"),
    _case("resources/timers_and_watches"),
    _case("resources/queued_signals"),
    _case("resources/many_descriptors", verdicts="TIMEOUT PROCESSES"),
)
TIME = (
    _case("time/sleep_past", verdicts="TIMEOUT"),
    _case("time/busy_loop", verdicts="TIMEOUT"),
    _case("time/terminate_ignored", verdicts="TIMEOUT"),
    _case("time/signals_blocked", verdicts="TIMEOUT"),
    _case("time/daemon", TREE),
    _case("time/setsid_child", TREE),
    _case("time/child_holds_output"),
    _case("time/respawning_chain", TREE),
    _case("time/many_chains", TREE, "OK PROCESSES"),
    _case("time/own_subreaper", TREE),
    _case("time/siblings", TREE),
    _case("time/exit_handlers", verdicts="OK TIMEOUT"),
    _case("time/destructor", verdicts="OK TIMEOUT"),
    _case("time/stops_itself", verdicts="TIMEOUT"),
    _case("time/stops_its_group", verdicts="TIMEOUT"),
    _case("time/threads_never_end", verdicts="TIMEOUT"),
    _case("time/processor_limit_ignored", verdicts="TIMEOUT"),
    _case("time/stdin_waits"),
    _case("time/fifo_waits", verdicts="TIMEOUT"),
    _case("time/vfork_sleeper", verdicts="TIMEOUT"),
    _case("time/alarm_clock_moved", KERNEL),
)
KERNEL_SURFACE = (
    _case("kernel/ptrace_attach", PROCESSES, "OK DENIED"),
    _case("kernel/ptrace_child", KERNEL),
    _case("kernel/process_vm_writev", PROCESSES),
    _case("kernel/bpf", ROOTS, "OK DENIED"),
    _case("kernel/io_uring", KERNEL),
    _case("kernel/userfaultfd", KERNEL),
    _case("kernel/keyrings", KERNEL),
    _case("kernel/mount", KERNEL),
    _case("kernel/unshare", KERNEL),
    _case("kernel/clone_namespaces", KERNEL),
    _case("kernel/setns", KERNEL),
    _case("kernel/kexec", ROOTS),
    _case("kernel/perf", KERNEL),
    _case("kernel/modules", ROOTS),
    _case("kernel/openat2", FILES),
    _case("kernel/int80", KERNEL, "CRASH DENIED"),
    _case("kernel/x32", KERNEL, "CRASH DENIED OK"),
    _case("kernel/kernel_log", KERNEL),
    _case("kernel/machine_state", ROOTS),
    _case("kernel/devices", (*FILES, UNPRIVILEGED)),
    _case("kernel/rare_calls", KERNEL),
    _case("kernel/unknown_numbers", KERNEL),
    _case("kernel/personality", KERNEL),
    _case("kernel/ioctls", KERNEL),
)
PRIVILEGE = (
    _case("privilege/become_root", (UNPRIVILEGED,)),
    _case("privilege/become_another", (UNPRIVILEGED,)),
    _case("privilege/capabilities", (UNPRIVILEGED,)),
    _case("privilege/no_new_privileges", (LANDLOCK, SECCOMP)),
    _case("privilege/set_user_id_program", (UNPRIVILEGED,)),
    _case("privilege/make_set_user_id", (SECCOMP, UNPRIVILEGED)),
    _case("privilege/chroot", ROOTS),
    _case("privilege/device_node", (LANDLOCK, UNPRIVILEGED)),
    _case("privilege/user_map", (LANDLOCK, UNPRIVILEGED)),
    _case("privilege/limits_of_itself", ROOTS),
    _case("privilege/limits_of_service", PROCESSES),
    _case("privilege/priority_of_service", PROCESSES),
    _case("privilege/own_priority", ROOTS),
    _case("privilege/real_time", ROOTS),
    _case("privilege/closes_itself", KERNEL),
    _case("privilege/kill_bystander", SIGNALS),
    _case("privilege/signal_service", SIGNALS),
    _case("privilege/signal_by_other_calls", SIGNALS),
    _case("privilege/signal_other_calls", SIGNALS),
)
METADATA_OUTSIDE = (
    _case("metadata/chmod_outside", OWNED),
    _case("metadata/fchmodat2", OWNED),
    _case("metadata/chown_outside", OWNED),
    _case("metadata/times_outside", OWNED),
    _case("metadata/attributes_outside", METADATA),
    _case("metadata/stat_outside", (NAMESPACES,)),
    _case("metadata/watch_outside", METADATA),
    _case("metadata/write_outside", FILES),
    _case("metadata/names_outside", FILES),
    _case("metadata/lock_outside", FILES),
    _case("metadata/system_files", (*FILES, UNPRIVILEGED)),
)
WORKSPACE = (
    _case("workspace/dot_dot", FILES),
    _case("workspace/symlink_read", FILES, then=(_read("link"), _read("folder/secret.txt"), _LIST)),
    _case("workspace/symlink_write", FILES, then=(_write("link"), _write("folder/writable.txt"), _write("folder/new"))),
    _case("workspace/hard_link", FILES, then=(_read("hard"), _write("hard"), _LIST)),
    _case("workspace/rename_across", FILES, then=(_LIST,)),
    _case("workspace/fifo", then=(_read("pipe"), _write("pipe"), _LIST)),
    _case("workspace/socket_file", then=(_read("socket"), _write("socket"), _LIST)),
    _case("workspace/long_names", then=(_LIST, _read("d" * 200), _read("d/" * 3000 + "x"))),
    _case("workspace/invalid_names", then=(_LIST, _read("\ufffd\ufffd"), _read("a\x00b"))),
    _case("workspace/many_files", then=(_LIST,), verdicts="OK DISK"),
    _case("workspace/deep_folders", then=(_LIST, _read("d/" * 1500 + "x")), verdicts="OK DISK"),
    _case(
        "workspace/no_permissions",
        verdicts="OK DISK",
        then=(_LIST, _read("closed/inner/file"), _write("closed/inner/file")),
    ),
    _case("workspace/closed_itself", verdicts="OK DISK", then=(_LIST, _read("file"), _write("file"))),
    _case("workspace/replaced_workspace", FILES, then=(_LIST, _read("secret.txt"), _write("planted.txt"))),
    _case("workspace/swapped_while_read", verdicts="OK FAILED", during=(_read("target"),)),
    _case("workspace/swapped_folder_while_written", during=(_write("folder/planted.txt"),)),
    _case("workspace/leased_file", during=(_read("leased"), _write("leased-for-reading"), _LIST)),
    _case("workspace/sparse_file", then=(_read("huge"), _LIST)),
    _case("workspace/shadows_modules", then=(_LIST, _write("new.txt"), ("math", {"expression": "1 + 1"}))),
)
ANSWER = (
    _case("answer/forged", verdicts="OK CRASH"),
    _case("answer/two_answers", verdicts="OK CRASH"),
    _case("answer/not_a_number", verdicts="CRASH"),
    _case("answer/garbage", verdicts="CRASH FAILED"),
    _case("answer/flood", verdicts="OUTPUT"),
    _case("answer/huge_value", verdicts="OK MEMORY"),
    _case("answer/nested_json", verdicts="CRASH"),
    _case("answer/channel_closed", verdicts="TIMEOUT CRASH"),
    _case("answer/descriptors_sent", verdicts="CRASH"),
    _case("answer/exits_at_once", verdicts="CRASH"),
    _case("answer/exits_as_if_not_jailed", verdicts="CRASH"),
    _case("answer/other_program", verdicts="CRASH"),
    _case("answer/kills_itself", verdicts="CRASH"),
    _case("answer/segmentation_fault", verdicts="CRASH"),
    _case("answer/kills_parent", SIGNALS),
    _case("answer/stops_parent", SIGNALS),
    _case("answer/exit_signal"),
    _case("answer/rewired_interpreter", verdicts="OK CRASH FAILED"),
    _case("answer/hostile_exception", verdicts="FAILED CRASH"),
    _case("answer/huge_exception", verdicts="FAILED"),
    _case("answer/hostile_value", verdicts="CRASH"),
    _case("answer/surrogates"),
)
ORDINARY = (
    _case("ordinary/threads"),
    # Its locks are named semaphores in /dev/shm, which only a /dev of its own can have.
    _case("ordinary/multiprocessing", needs=(NAMESPACES,)),
    _case("ordinary/fork_and_pipe"),
    _case("ordinary/sqlite"),
    _case("ordinary/tempfile"),
    _case("ordinary/subprocess"),
    _case("ordinary/asyncio_tasks"),
    _case("ordinary/unicode"),
    _case("ordinary/data_formats"),
    _case("ordinary/numbers"),
    _case("ordinary/fresh_randomness"),
    _case("ordinary/dates"),
    _case("ordinary/late_imports"),
    _case("ordinary/own_modules"),
    _case("ordinary/archives"),
    _case("ordinary/files"),
    _case("ordinary/signals"),
    _case("ordinary/collector"),
    _case("ordinary/memory_within_limit"),
    _case("ordinary/numpy_arrays", limits={"memory_mb": 1024}),
    _case("ordinary/error", verdicts="FAILED"),
    _case("ordinary/exit_with_status", verdicts="FAILED"),
    _case("ordinary/logging_and_streams"),
)
CASES = (
    *SECRETS,
    *NETWORK,
    *RESOURCES,
    *TIME,
    *KERNEL_SURFACE,
    *PRIVILEGE,
    *METADATA_OUTSIDE,
    *WORKSPACE,
    *ANSWER,
    *ORDINARY,
)
