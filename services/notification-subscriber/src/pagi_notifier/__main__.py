"""Runs the notification subscriber: `python -m pagi_notifier`."""

from __future__ import annotations

from pagi_chassis.lifecycle import run

from pagi_notifier.bootstrap import build
from pagi_notifier.settings import NotifierSettings

if __name__ == "__main__":
    run("notification-subscriber", NotifierSettings, build)
