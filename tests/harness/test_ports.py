from __future__ import annotations

import os
import socket
import sys

import pytest
from dev_mesh import launch
from dev_mesh.errors import MeshError
from dev_mesh.ports import Port, complaint, holder, is_free
from dev_mesh.probes import HttpProbe
from dev_mesh.services import ServiceSpec


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def service(name, *numbers):
    ports = tuple(Port("HTTP", f"{name.upper()}_PORT", number) for number in numbers)
    return ServiceSpec(name, ("true",), ports, HttpProbe("127.0.0.1", numbers[0]))


def test_a_free_port_is_free_and_a_taken_one_is_not(port, taken):
    assert is_free(port)
    assert not is_free(taken)


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc says who holds a port")
def test_the_holder_of_a_port_is_named(taken):
    assert holder(taken).startswith(f"pid {os.getpid()} (")
    assert "python" in holder(taken)


def test_the_complaint_names_the_port_its_user_and_the_variable(taken):
    text = complaint("memory", Port("gRPC", "MEMORY_GRPC_PORT", taken))
    assert f"Port {taken} (memory, gRPC) is taken by " in text
    assert "MEMORY_GRPC_PORT=" in text
    other = int(text.partition("MEMORY_GRPC_PORT=")[2].split()[0])
    assert is_free(other)


def test_every_port_that_is_taken_is_named_at_once(taken, port):
    with socket.create_server(("127.0.0.1", 0)) as second:
        numbers = (taken, port, second.getsockname()[1])
        with pytest.raises(MeshError) as caught:
            launch.check_ports([service("alpha", *numbers)])
    assert f"Port {numbers[0]}" in str(caught.value)
    assert f"Port {numbers[2]}" in str(caught.value)
    assert f"Port {port} " not in str(caught.value)


def test_two_services_on_one_port_are_named(port):
    with pytest.raises(MeshError, match=f"Port {port} is given to both alpha and beta .BETA_PORT."):
        launch.check_ports([service("alpha", port), service("beta", port)])


def test_a_port_of_a_running_mesh_is_traced_to_its_service(harness):
    mesh = harness(alpha="")
    mesh.says("The mesh is ready")
    with pytest.raises(MeshError, match=rf"taken by pid \d+ .*fake_service.py {mesh.ports['alpha']}"):
        launch.check_ports([service("alpha", mesh.ports["alpha"])])
