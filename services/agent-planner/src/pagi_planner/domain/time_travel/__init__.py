"""Runs looked at and driven again from their journals: fork, timeline, replay."""
