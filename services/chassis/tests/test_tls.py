"""Mutual TLS over real connections, with certificates that openssl makes."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from pagi_chassis.errors import UnavailableError
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.grpc_server import GrpcServer
from pagi_chassis.lifecycle import StartError
from pagi_chassis.tls import ClientTls, ServerTls


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make_ca(folder):
    folder.mkdir()
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", folder / "ca.key")
    openssl(
        *("req", "-x509", "-new", "-key", folder / "ca.key", "-out", folder / "ca.crt", "-days", 2),
        *("-subj", f"/CN={folder.name}", "-addext", "basicConstraints=critical,CA:TRUE"),
    )
    return folder


def make_leaf(ca, name: str, names: str):
    key, certificate, request, extensions = (ca / f"{name}.{end}" for end in ("key", "crt", "csr", "ext"))
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    openssl("req", "-new", "-key", key, "-out", request, "-subj", f"/CN={name}")
    extensions.write_text(f"subjectAltName={names}\n")
    openssl(
        *("x509", "-req", "-in", request, "-CA", ca / "ca.crt", "-CAkey", ca / "ca.key", "-CAcreateserial"),
        *("-days", 2, "-extfile", extensions, "-out", certificate),
    )
    return certificate, key


@pytest.fixture(scope="session")
def ours(tmp_path_factory):
    return make_ca(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="session")
def foreign(tmp_path_factory):
    return make_ca(tmp_path_factory.mktemp("tls") / "foreign")


@pytest.fixture(scope="session")
def server_tls(ours):
    return ServerTls(*make_leaf(ours, "server", "IP:127.0.0.1"), ours / "ca.crt")


@pytest.fixture(scope="session")
def client_tls(ours):
    return ClientTls(*make_leaf(ours, "client", "DNS:client"), ours / "ca.crt")


@pytest.fixture
async def ask():
    """ask(server's TLS, client's TLS) asks for the health of a server."""
    servers, clients = [], []

    async def ask(server_tls, client_tls):
        servers.append(GrpcServer("127.0.0.1", 0, tls=server_tls))
        await servers[-1].start()
        clients.append(GrpcClient(f"127.0.0.1:{servers[-1].port}", tls=client_tls))
        await clients[-1].check_health(timeout_s=5)

    yield ask
    for client in clients:
        await client.close()
    for server in servers:
        await server.stop()


async def test_two_that_know_each_other_talk(ask, server_tls, client_tls):
    await ask(server_tls, client_tls)


async def test_a_plaintext_client_is_refused(ask, server_tls):
    with pytest.raises(UnavailableError, match="cannot be reached"):
        await ask(server_tls, None)


async def test_a_plaintext_server_is_refused(ask, client_tls):
    with pytest.raises(UnavailableError, match="cannot be reached"):
        await ask(None, client_tls)


async def test_a_client_of_a_foreign_ca_is_refused(ask, ours, foreign, server_tls):
    certificate, key = make_leaf(foreign, "client", "DNS:client")
    with pytest.raises(UnavailableError):
        await ask(server_tls, ClientTls(certificate, key, ours / "ca.crt"))


async def test_a_server_of_a_foreign_ca_is_refused(ask, ours, foreign, client_tls):
    certificate, key = make_leaf(foreign, "server", "IP:127.0.0.1")
    with pytest.raises(UnavailableError, match=r"(?i)certificate|handshake"):
        await ask(ServerTls(certificate, key, ours / "ca.crt"), client_tls)


async def test_a_server_of_another_name_needs_the_name_that_is_expected(ask, ours, client_tls):
    server_tls = ServerTls(*make_leaf(ours, "memory", "DNS:memory"), ours / "ca.crt")
    with pytest.raises(UnavailableError):
        await ask(server_tls, client_tls)
    await ask(server_tls, replace(client_tls, server_name="memory"))
    with pytest.raises(UnavailableError):
        await ask(server_tls, replace(client_tls, server_name="sandbox"))


@pytest.mark.parametrize("part", ["certificate", "key", "ca"])
@pytest.mark.parametrize("content", [None, b"", b"garbage"], ids=["absent", "empty", "garbage"])
async def test_files_that_cannot_be_used_stop_the_start(tmp_path, server_tls, client_tls, part, content):
    bad = tmp_path / "bad.pem"
    if content is not None:
        bad.write_bytes(content)
    with pytest.raises(StartError, match=r"bad\.pem"):
        await GrpcServer("127.0.0.1", 0, tls=replace(server_tls, **{part: bad})).start()
    with pytest.raises(StartError, match=r"bad\.pem"):
        GrpcClient("127.0.0.1:1", tls=replace(client_tls, **{part: bad}))


async def test_a_key_of_another_certificate_or_with_a_password_stops_the_start(tmp_path, server_tls, client_tls):
    with pytest.raises(StartError, match="mismatch"):
        await GrpcServer("127.0.0.1", 0, tls=replace(server_tls, key=client_tls.key)).start()
    locked = tmp_path / "locked.key"
    openssl("pkcs8", "-topk8", "-in", server_tls.key, "-passout", "pass:x", "-out", locked)
    with pytest.raises(StartError, match="without a password"):
        await GrpcServer("127.0.0.1", 0, tls=replace(server_tls, key=locked)).start()
