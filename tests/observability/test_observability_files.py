"""Rules and dashboard ask for metrics that exist; Prometheus itself accepts the files where its tool is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "observability"
DASHBOARD = FOLDER / "grafana" / "dashboards" / "pagi-mesh.json"
_DECLARED = re.compile(r'\b(Counter|Gauge|Histogram|Summary)\(\s*"(pagi_[a-z_]+)"')
_USED = re.compile(r"\bpagi_[a-z_]+")
_SUFFIXES = {
    "Counter": ("_total",),
    "Gauge": ("",),
    "Histogram": ("_bucket", "_sum", "_count"),
    "Summary": ("_sum", "_count"),
}


def existing() -> set[str]:
    found = set()
    for path in ROOT.glob("services/*/src/**/*.py"):
        for kind, name in _DECLARED.findall(path.read_text(encoding="utf-8")):
            found |= {name.removesuffix("_total") + suffix for suffix in _SUFFIXES[kind]}
    return found


def expressions(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return [target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"]]
    # An expression is what stands after `expr:`, on that line or indented below it.
    return re.findall(r"expr:(.*(?:\n {10,}.*)*)", text)


@pytest.mark.parametrize("path", [FOLDER / "alerts.yml", DASHBOARD], ids=lambda path: path.name)
def test_every_metric_that_is_asked_for_exists(path: Path) -> None:
    used = {name for expression in expressions(path) for name in _USED.findall(expression)}
    assert used
    assert used - existing() == set()


def test_every_service_is_scraped() -> None:
    text = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
    folders = {path.parent.name for path in ROOT.glob("services/*/pyproject.toml")} - {"chassis"}
    assert set(re.findall(r"service: ([a-z-]+)", text)) == folders


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")],
    ids=lambda arguments: " ".join(arguments),
)
def test_prometheus_accepts(arguments: tuple[str, ...]) -> None:
    result = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
