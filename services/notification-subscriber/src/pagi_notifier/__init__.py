"""The notification subscriber: reads what happened from a Redis stream and delivers it, at least once."""
