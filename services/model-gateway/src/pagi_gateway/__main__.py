"""Runs the model gateway: `python -m pagi_gateway`, or tries a model: `python -m pagi_gateway test-model`."""

from __future__ import annotations

import sys

from pagi_chassis.lifecycle import run

from pagi_gateway.bootstrap import build
from pagi_gateway.settings import GatewaySettings


def main() -> None:
    """The console script `pagi-gateway`."""
    if sys.argv[1:2] == ["test-model"]:
        from pagi_gateway.adapters.model_trial import main as try_model

        sys.exit(try_model(sys.argv[2:]))
    run("model-gateway", GatewaySettings, build)


if __name__ == "__main__":
    main()
