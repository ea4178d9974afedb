"""What memory is, free of transport, store and environment."""
