"""A version a file, each named by the one before it."""
