"""Where clients run; each is a `fededge.learning.interfaces.ClientRuntime`."""
