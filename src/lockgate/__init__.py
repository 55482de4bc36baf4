"""Lockgate: an open secure-access gateway and client."""

__version__ = "0.1.0"
