"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from miniature import author

from collapse_book.messages import BadInput
from collapse_book.pdf import chromium, find_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["author", "browser"]


@pytest.fixture(scope="module")  # while it is open, no other test of the process can use asyncio
def browser() -> Iterator[Browser]:
    """A headless browser, where there is one."""
    pytest.importorskip("playwright", reason="the extra `audit` is not installed")
    try:
        find_chromium()
    except BadInput as missing:
        pytest.skip(str(missing))
    with chromium() as browser:
        yield browser
