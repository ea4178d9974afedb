"""The events of runs, for as many as want to watch them."""
