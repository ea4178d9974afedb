"""Mutual TLS for the internal links, from PEM files."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from pagi_chassis.component import StartError


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What a server shows and whom it believes. A client without a certificate of this CA is refused."""

    certificate: Path
    key: Path
    ca: Path

    def credentials(self) -> grpc.ServerCredentials:
        """Reads the files.

        Raises:
            StartError: A file cannot be read or used.
        """
        certificate, key, ca = _read(self.certificate, self.key, self.ca)
        return grpc.ssl_server_credentials([(key, certificate)], root_certificates=ca, require_client_auth=True)


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
            StartError: A file cannot be read or used.
        """
        certificate, key, ca = _read(self.certificate, self.key, self.ca)
        return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=certificate)


def _read(certificate: Path, key: Path, ca: Path) -> tuple[bytes, bytes, bytes]:
    """What the files hold; gRPC itself would take anything and then refuse every connection without a reason."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
        context.load_verify_locations(ca)
        return certificate.read_bytes(), key.read_bytes(), ca.read_bytes()
    except (OSError, ValueError) as error:
        raise StartError(
            f"TLS cannot be set up ({error}) from certificate {certificate}, key {key}, CA {ca}. Give PEM files of one"
            " set, a key without a password; scripts/gen_certs.sh makes them."
        ) from error


def _no_password() -> str:
    """Stands in for a prompt on the terminal, where a start would wait for ever."""
    return ""
