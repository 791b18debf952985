"""The services' side: catalogue, gateways, client."""
