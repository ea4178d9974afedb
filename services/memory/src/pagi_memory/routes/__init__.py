"""The HTTP edge: health, metrics and a look at the latest turns."""
