"""A run in progress: what is noted of it, and what it does phase by phase."""
