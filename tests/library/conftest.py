"""The loopback Hub, for libraries of what lies there."""

from tests.hub.conftest import loopback

__all__ = ["loopback"]
