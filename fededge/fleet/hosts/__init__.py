"""The gateway's functions on other hosts: as CloudEvents services, and as AWS Lambda handlers behind a WebSocket API."""
