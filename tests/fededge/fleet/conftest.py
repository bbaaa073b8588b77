"""A published fleet for the tests of this floor."""

from tests.published_fleet import examples, fleet  # noqa: F401
