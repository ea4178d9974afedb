"""Asks a cloud's metadata address for credentials. Source: the Capital One breach of 2019."""

from probe import attempt


def ask():
    import socket

    with socket.create_connection(("169.254.169.254", 80), timeout=0.5) as connection:
        # No question: that it could be asked is enough.
        return connection.getsockname()


attempt("the metadata address", ask)
