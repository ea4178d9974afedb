"""Runs the model gateway: `python -m pagi_gateway`."""

from __future__ import annotations

from pagi_chassis.lifecycle import run

from pagi_gateway.bootstrap import build
from pagi_gateway.settings import GatewaySettings

if __name__ == "__main__":
    run("model-gateway", GatewaySettings, build)
