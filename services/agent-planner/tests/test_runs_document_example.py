"""The agent of docs/runs.md that runs in one's own process, as a reader would run it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = (Path(__file__).parents[3] / "docs" / "runs.md").read_text()


def test_the_example_prints_what_the_document_says(tmp_path):
    [section] = re.findall(r"^## In your own process\n(.*?)^## ", DOCUMENT, re.DOTALL | re.MULTILINE)
    code, reach_the_gateway = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    [said] = re.findall(r"^\$ \.venv/bin/python agent\.py\n(.*?)```", section, re.DOTALL | re.MULTILINE)
    (tmp_path / "agent.py").write_text(code)
    done = subprocess.run([sys.executable, "agent.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (said, "")
    compile(reach_the_gateway, "docs/runs.md", "exec")
