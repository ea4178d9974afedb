"""Providers, each behind the port `pagi_gateway.domain.ports.Provider`."""
