"""What a model file may name: laws, error curves, likelihoods and structures, the package's and a user's own.

A class is registered by being defined, under its attribute ``name``. One that lives in an installed package of its
own is found by the entry point group ``bayes_l2l.extensions``, whose modules are imported when a name is asked for
that is not known yet; one in a script or notebook only has to be defined before it is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")

#: Entry points whose modules define more of what a model file may name.
GROUP: Final = "bayes_l2l.extensions"


class Registry(Mapping[str, Item], Generic[Item]):
    """Named things of one kind, in the order in which they were registered."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}

    def register(self, name: str, item: Item) -> None:
        """Add an item, in place of an earlier one of its name."""
        self._items[name] = item

    def __getitem__(self, name: str) -> Item:
        if name not in self._items:
            _load_extensions()
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._items:
            _load_extensions()
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


_loaded = False


def _load_extensions() -> None:
    """Import the modules of all extensions, once a process."""
    global _loaded
    if _loaded:
        return
    _loaded = True
    from importlib.metadata import entry_points

    for extension in entry_points(group=GROUP):
        extension.load()
