"""What a request may carry, for what serves it: see fededge.payloads."""

from fededge.payloads import from_json, to_json

__all__ = ["from_json", "to_json"]
