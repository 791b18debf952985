"""The services' side: gateways, client, and what every call passes through."""
