from __future__ import annotations

from pathlib import Path

import gen_env_example
import pytest
from dev_mesh.environment import parse_dotenv
from pagi_chassis.settings import ServiceSettings
from pydantic import AliasChoices, Field


class One(ServiceSettings):
    one_port: int = Field(
        default=8001, description="Port of one.", validation_alias=AliasChoices("ONE_PORT", "OLD_PORT")
    )
    shared_addr: str = Field(default="127.0.0.1:6379", description="Shared.")


class Two(ServiceSettings):
    shared_addr: str = Field(default="127.0.0.1:6379", description="Shared.")
    folder: Path = Field(default=Path("data/two"), description="Folder of two.")
    nothing: str | None = Field(default=None, description="Unset.")


class Other(ServiceSettings):
    shared_addr: str = Field(default="elsewhere:1", description="Shared.")


def test_every_variable_stands_once_with_its_default_and_aliases():
    text = gen_env_example.render({"one": One, "two": Two})
    assert "# Port of one. Also read as OLD_PORT.\n#ONE_PORT=8001\n" in text
    assert text.count("SHARED_ADDR=127.0.0.1:6379") == 1
    assert "\n#FOLDER=data/two\n" in text
    assert "\n#NOTHING=\n" in text
    assert text.count("#LOG_LEVEL=info") == 1


def test_copied_as_it_is_it_changes_nothing():
    assert parse_dotenv(gen_env_example.render({"one": One, "two": Two})) == {}


def test_services_that_disagree_about_a_default_are_named():
    with pytest.raises(ValueError, match="SHARED_ADDR: other has the default"):
        gen_env_example.render({"one": One, "other": Other})


def test_a_stale_file_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gen_env_example, "TARGET", tmp_path / ".env.example")
    assert gen_env_example.main(["--check"]) == 1
    assert "Run: make env" in capsys.readouterr().err
    assert gen_env_example.main([]) == 0
    assert gen_env_example.main(["--check"]) == 0
