"""Runs the whole mesh on one machine for development. Standard library only, so that it explains a broken set-up."""
