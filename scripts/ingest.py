#!/usr/bin/env python3
"""Brings memory in step with the knowledge bases and shows how far it is (`make ingest`)."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time

from dev_env.interpreter import use_venv

use_venv()

from pagi.memory.v1 import memory_pb2 as pb
from pagi.memory.v1 import memory_pb2_grpc
from pagi_chassis.errors import PagiError, UnavailableError
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.settings import ServiceSettings, SettingsError, load
from pydantic import Field

TIMEOUT_S = 3600.0
_DOING = {
    pb.INGEST_PHASE_LOOKING: "looking at the folders",
    pb.INGEST_PHASE_STORING: "taking in",
    pb.INGEST_PHASE_INDEXING: "indexing",
    pb.INGEST_PHASE_DONE: "done",
}


class ClientSettings(ServiceSettings):
    """Where memory is."""

    memory_grpc_addr: str = Field(default="", description="Host and port of memory.")
    memory_grpc_port: int = Field(default=50052, description="Its port on this machine, where no address is given.")

    @property
    def address(self) -> str:
        """Where to ask: memory on this machine unless an address says otherwise."""
        return self.memory_grpc_addr or f"127.0.0.1:{self.memory_grpc_port}"


def main() -> int:
    """Runs the command; 1 where it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="host:port of memory; else MEMORY_GRPC_ADDR, else MEMORY_GRPC_PORT here")
    parser.add_argument("--rebuild", action="store_true", help="take in every document anew, the unchanged ones too")
    options = parser.parse_args()
    try:
        settings = load(ClientSettings)
        return asyncio.run(_ingest(settings, options.address or settings.address, options.rebuild))
    except UnavailableError as error:
        hint = "Does it run (`make status-dev`)? With mutual TLS it is `make ingest MTLS=1`."
        sys.stderr.write(f"ingest: {error}\n{hint}\n")
        return 1
    except (PagiError, SettingsError) as error:
        sys.stderr.write(f"ingest: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


async def _ingest(settings: ClientSettings, address: str, rebuild: bool) -> int:
    began = time.monotonic()
    client = GrpcClient(address, tls=settings.client_tls)
    last = pb.IngestKnowledgeBasesResponse()
    try:
        stub = memory_pb2_grpc.MemoryStub(client.channel)
        request = pb.IngestKnowledgeBasesRequest(rebuild=rebuild)
        async for last in client.stream(stub.IngestKnowledgeBases, request, timeout_s=TIMEOUT_S):
            _show(last)
    finally:
        await client.close()
        if sys.stderr.isatty():
            sys.stderr.write("\n")
    for skipped in last.skipped:
        sys.stdout.write(f"skipped {skipped.source}: {skipped.reason}\n")
    counts = f"{last.unchanged} unchanged, {last.stored} stored, {last.removed} removed, {len(last.skipped)} skipped"
    sys.stdout.write(f"documents: {counts}, in {time.monotonic() - began:.1f} s\n")
    return 0


def _show(progress: pb.IngestKnowledgeBasesResponse) -> None:
    # A bar is for people; a log gets the last line only.
    if not sys.stderr.isatty():
        return
    width = shutil.get_terminal_size().columns
    share = progress.done / progress.total if progress.total else float(progress.phase == pb.INGEST_PHASE_DONE)
    bar = ("#" * round(30 * share)).ljust(30, ".")
    line = f"[{bar}] {progress.done}/{progress.total} {_DOING.get(progress.phase, '')} {progress.source}"
    sys.stderr.write(f"\r{line[: width - 1].ljust(width - 1)}")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
