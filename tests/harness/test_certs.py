from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def generate(folder, *arguments, **variables):
    environment = os.environ | {"TLS_CERTS_DIR": str(folder)} | variables
    command = ["bash", str(ROOT / "scripts/gen_certs.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def openssl(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    generate(folder)
    return folder


@pytest.mark.parametrize(("name", "purpose"), [("server", "sslserver"), ("client", "sslclient")])
def test_each_certificate_is_good_for_its_purpose_and_no_other(certs, name, purpose):
    other = {"sslserver": "sslclient", "sslclient": "sslserver"}[purpose]
    for wanted, code in ((purpose, 0), (other, 2)):
        done = openssl("verify", "-x509_strict", "-purpose", wanted, "-CAfile", certs / "ca.crt", certs / f"{name}.crt")
        assert done.returncode == code, done.stderr


@pytest.mark.parametrize(
    "name", ["localhost", "agent-planner", "model-gateway", "memory", "sandbox", "notification-subscriber"]
)
def test_the_server_is_believed_under_each_of_its_names(certs, name):
    done = openssl("verify", "-verify_hostname", name, "-CAfile", certs / "ca.crt", certs / "server.crt")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("address", "code"), [("127.0.0.1", 0), ("::1", 0), ("192.0.2.1", 2)])
def test_the_server_is_believed_under_loopback_addresses_only(certs, address, code):
    done = openssl("verify", "-verify_ip", address, "-CAfile", certs / "ca.crt", certs / "server.crt")
    assert done.returncode == code, done.stderr


def test_keys_are_for_their_owner_alone(certs):
    keys = sorted(certs.glob("*.key"))
    assert [key.name for key in keys] == ["ca.key", "client.key", "server.key"]
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_they_are_valid_for_two_years_and_a_quarter_at_most(certs):
    day = 24 * 3600
    assert openssl("x509", "-in", certs / "server.crt", "-noout", "-checkend", 820 * day).returncode == 0
    assert openssl("x509", "-in", certs / "server.crt", "-noout", "-checkend", 826 * day).returncode == 1


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_valid_is_kept_and_force_makes_it_anew(tmp_path):
    generate(tmp_path)
    first = contents(tmp_path)
    assert "are valid until" in generate(tmp_path)
    assert contents(tmp_path) == first
    generate(tmp_path, "--force")
    second = contents(tmp_path)
    assert second.keys() == first.keys(), "nothing temporary is left"
    assert all(first[name] != second[name] for name in first)


def test_a_certificate_of_another_ca_or_without_its_key_is_made_anew(tmp_path):
    for damage in ("client.crt", "server.key"):
        (tmp_path / "a").mkdir(exist_ok=True)
        generate(tmp_path / "a")
        generate(tmp_path / "b", "--force")
        shutil.copy(tmp_path / "b" / damage, tmp_path / "a" / damage)
        assert "Made certificates" in generate(tmp_path / "a")


def test_more_names_can_be_given(tmp_path):
    generate(tmp_path, TLS_EXTRA_SANS="DNS:mesh.example")
    done = openssl(
        "verify", "-verify_hostname", "mesh.example", "-CAfile", tmp_path / "ca.crt", tmp_path / "server.crt"
    )
    assert done.returncode == 0, done.stderr
