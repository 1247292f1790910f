"""What the tests of upkeep share with those of the store."""

from tests.store.conftest import memory

__all__ = ["memory"]
