"""Turns of tool calls, and the tools that the planner itself brings."""
