"""Where a run stands: its events, and the fold over them."""
