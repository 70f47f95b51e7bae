"""The loopback Hub, for collections of what lies there."""

from tests.hub.conftest import loopback

__all__ = ["loopback"]
