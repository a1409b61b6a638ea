"""Fixtures for all tests."""

from miniature import author

__all__ = ["author"]
