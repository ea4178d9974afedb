"""The run: what it is, how it proceeds, what it needs. No transport, no store, no environment."""
