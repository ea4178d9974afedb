"""Mutual TLS for the internal links, from PEM files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What a server shows and whom it believes. A client without a certificate of this CA is refused."""

    certificate: Path
    key: Path
    ca: Path

    def credentials(self) -> grpc.ServerCredentials:
        """Reads the files.

        Raises:
            OSError: A file cannot be read.
        """
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.certificate.read_bytes())],
            root_certificates=self.ca.read_bytes(),
            require_client_auth=True,
        )


@dataclass(frozen=True, slots=True)
class ClientTls:
    """What a client shows and whom it believes.

    Attributes:
        server_name: The name expected in the server's certificate where it is not the one that is dialled.
    """

    certificate: Path
    key: Path
    ca: Path
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files.

        Raises:
            OSError: A file cannot be read.
        """
        return grpc.ssl_channel_credentials(
            root_certificates=self.ca.read_bytes(),
            private_key=self.key.read_bytes(),
            certificate_chain=self.certificate.read_bytes(),
        )
