"""What the sandbox does, without transport, store or environment."""
