"""The memory service: who the agent is, what it knows, what was said."""
