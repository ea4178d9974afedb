"""When the environment is set up and when it is left alone. Nothing is fetched here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dev_env import installers, stamp

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path):
    """A copy of what set-up reads, with an environment that only looks like one."""
    for name in ("run", "dev", "build"):
        path = tmp_path / "requirements" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{name}-package==1\n")
    for folder in ("proto", "services/memory"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "pyproject.toml").write_text("[project]\n")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").touch()
    return tmp_path


def current(checkout):
    return {profile for profile in stamp.PROFILES if stamp.is_current(checkout, checkout / ".venv", profile)}


def test_nothing_is_current_at_first(checkout):
    assert current(checkout) == set()


def test_the_profile_for_running_does_not_bring_the_test_tools(checkout):
    stamp.write(checkout, checkout / ".venv", "run")
    assert current(checkout) == {"run"}
    assert "dev" not in stamp.PROFILES["run"]


def test_the_profile_for_development_holds_that_for_running(checkout):
    stamp.write(checkout, checkout / ".venv", "dev")
    assert current(checkout) == {"run", "dev"}


@pytest.mark.parametrize(
    ("changed", "left"),
    [
        ("requirements/run.txt", set()),
        ("requirements/dev.txt", {"run"}),
        ("services/memory/pyproject.toml", set()),
        ("proto/pyproject.toml", set()),
    ],
)
def test_a_changed_input_calls_for_a_set_up(checkout, changed, left):
    stamp.write(checkout, checkout / ".venv", "dev")
    with (checkout / changed).open("a") as file:
        file.write("# changed\n")
    assert current(checkout) == left


def test_a_new_service_calls_for_a_set_up(checkout):
    stamp.write(checkout, checkout / ".venv", "run")
    (checkout / "services/sandbox").mkdir()
    (checkout / "services/sandbox/pyproject.toml").write_text("[project]\n")
    assert current(checkout) == set()


def test_an_interrupted_set_up_is_not_believed(checkout):
    venv = checkout / ".venv"
    stamp.write(checkout, venv, "dev")
    stamp.forget(checkout, venv)
    assert current(checkout) == set()
    assert not stamp.belongs_elsewhere(checkout, venv)


def test_a_moved_checkout_needs_a_new_environment(checkout):
    stamp.write(checkout, checkout / ".venv", "dev")
    moved = checkout.with_name("moved")
    checkout.rename(moved)
    assert current(moved) == set()
    assert stamp.belongs_elsewhere(moved, moved / ".venv")


def test_a_damaged_stamp_is_not_believed(checkout):
    stamp.write(checkout, checkout / ".venv", "dev")
    (checkout / ".venv/pagi-setup.json").write_text("{")
    assert current(checkout) == set()


def test_a_current_environment_is_left_alone(tmp_path):
    """The whole command, on a copy of the scripts: it neither installs nor looks for anything."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "requirements").mkdir()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    stamp.write(tmp_path, tmp_path / ".venv", "run")
    command = [sys.executable, str(tmp_path / "scripts/setup_env.py"), "--profile"]
    done = subprocess.run([*command, "run"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    missing = subprocess.run([*command, "dev"], capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    assert "requirements/build.txt is missing. `make lock` makes it." in missing.stderr


def test_pip_s_index_is_handed_to_uv(tmp_path, monkeypatch):
    monkeypatch.delenv("UV_INDEX_URL", raising=False)
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    assert installers.uv(tmp_path, Path("uv")).environment["UV_DEFAULT_INDEX"] == "https://index.example/simple"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://other.example/simple")
    assert "UV_DEFAULT_INDEX" not in installers.uv(tmp_path, Path("uv")).environment


def test_what_an_installer_said_is_in_its_error(tmp_path):
    program = tmp_path / "installer"
    program.write_text("#!/bin/sh\necho no network today; exit 3\n")
    program.chmod(0o755)
    with pytest.raises(installers.InstallError, match="fake failed:\n  no network today"):
        installers.Installer("fake", (str(program),), {}).install_locked([tmp_path / "run.txt"])


def test_every_fetched_file_must_have_a_hash(tmp_path):
    program = tmp_path / "installer"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/arguments\n')
    program.chmod(0o755)
    installers.Installer("fake", (str(program),), {}).install_locked([Path("a.txt"), Path("b.txt")])
    assert (tmp_path / "arguments").read_text().split() == ["--require-hashes", "-r", "a.txt", "-r", "b.txt"]


def test_the_stamp_is_readable(checkout):
    stamp.write(checkout, checkout / ".venv", "run")
    assert json.loads((checkout / ".venv/pagi-setup.json").read_text())["root"] == str(checkout)
