"""The gateway: clients keep a WebSocket to it, operators and pipelines use its HTTP API, and the registry behind it
holds all that lasts. Two gateways on one registry serve one fleet.
"""
