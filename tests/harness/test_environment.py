from __future__ import annotations

import io

import pytest
from dev_mesh import launch
from dev_mesh.console import Console
from dev_mesh.environment import Environment, parse_dotenv
from dev_mesh.errors import MeshError
from dev_mesh.services import core_services
from dev_mesh.valkey import RedisAddress, redis_address


def test_dotenv_lines_are_read_as_the_services_read_them():
    text = """
    # a comment
    PLAIN=one
    export EXPORTED = two
    QUOTED="three # not a comment"
    SINGLE='four'
    COMMENTED=five # a comment
    EMPTY=
    ONLY_COMMENT=# nothing
    not a line
    """
    assert parse_dotenv(text) == {
        "PLAIN": "one",
        "EXPORTED": "two",
        "QUOTED": "three # not a comment",
        "SINGLE": "four",
        "COMMENTED": "five",
        "EMPTY": "",
        "ONLY_COMMENT": "",
    }


def test_the_environment_goes_before_the_file_and_an_empty_value_is_none():
    environment = Environment({"A": "1", "B": "", "C": "3"}, {"A": "9", "B": "2", "D": ""})
    assert [environment.get(name, default="-") for name in "ABCD"] == ["1", "2", "3", "-"]


@pytest.mark.parametrize("value", ["no", "0", "65536", "-1", "1.5"])
def test_a_wrong_port_names_its_variable(value):
    with pytest.raises(MeshError, match=f"MEMORY_PORT={value}"):
        Environment({"MEMORY_PORT": value}).port("MEMORY_PORT", default=1)


def test_an_alias_of_a_port_is_read_and_the_others_are_told_of_it(tmp_path):
    environment = Environment({"RUST_SANDBOX_GRPC_PORT": "7001", "MEMORY_GRPC_PORT": "7002"})
    specs = {spec.name: spec for spec in core_services(tmp_path, environment)}
    assert [port.number for port in specs["sandbox"].ports] == [8001, 7001]
    started_with = environment.for_process()
    assert started_with["SANDBOX_GRPC_ADDR"] == "127.0.0.1:7001"
    assert started_with["MEMORY_GRPC_ADDR"] == "127.0.0.1:7002"
    assert started_with["MODEL_GATEWAY_ADDR"] == "127.0.0.1:50051"


def test_an_address_that_a_person_has_set_is_kept(tmp_path):
    environment = Environment({}, {"RUST_SANDBOX_GRPC_ADDR": "elsewhere:1"})
    core_services(tmp_path, environment)
    assert "SANDBOX_GRPC_ADDR" not in environment.for_process()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", RedisAddress("127.0.0.1", 6379)),
        ("127.0.0.1:7000", RedisAddress("127.0.0.1", 7000)),
        ("redis://user:secret@redis.example:7000/2", RedisAddress("redis.example", 7000)),
        ("rediss://redis.example", RedisAddress("redis.example", 6379)),
    ],
)
def test_redis_addresses(text, expected):
    assert redis_address(Environment({"REDIS_ADDR": text})) == expected


def test_a_wrong_redis_address_names_its_variable():
    with pytest.raises(MeshError, match=r"REDIS_ADDR=127\.0\.0\.1:many"):
        redis_address(Environment({"REDIS_ADDR": "127.0.0.1:many"}))


def test_a_redis_elsewhere_that_does_not_answer_is_not_replaced(tmp_path):
    # 192.0.2.0/24 is kept for documentation (RFC 5737): nobody answers there.
    environment = Environment({"REDIS_ADDR": "192.0.2.1:6379"})
    with pytest.raises(MeshError, match=r"REDIS_ADDR names 192\.0\.2\.1:6379, where no Redis answers"):
        launch.plan_core(tmp_path, environment, Console(io.StringIO()))


def test_the_banner_shows_how_to_call_a_mesh_that_wants_a_key(tmp_path):
    environment = Environment({"PAGI_API_KEY": "secret"})
    text = launch.banner(core_services(tmp_path, environment), environment, 1.0, mtls=False)
    assert '-H "X-API-Key: $PAGI_API_KEY"' in text
    assert "secret" not in text
    assert "localhost:8585/plan" in text


def test_services_keep_their_compiled_modules_and_lose_no_last_words():
    values = Environment({"PYTHONDONTWRITEBYTECODE": "1"}).for_process()
    assert "PYTHONDONTWRITEBYTECODE" not in values
    assert values["PYTHONUNBUFFERED"] == "1"
