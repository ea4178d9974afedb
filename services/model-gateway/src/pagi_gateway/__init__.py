"""Model gateway: every model provider behind the one contract `pagi.gateway.v1.ModelGateway`."""
