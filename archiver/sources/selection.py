"""Which attributes an archiver archives: patterns of domain/family/member/attribute. Pure."""

from collections.abc import Iterable
from fnmatch import fnmatchcase


class Selection:
    """The attributes that match one of `patterns` and none of `excluded`; `*` and `?` do not reach over a slash."""

    def __init__(self, patterns: Iterable[str], excluded: Iterable[str] = ()) -> None:
        self._patterns = [_split(pattern) for pattern in patterns]
        self._excluded = [_split(pattern) for pattern in excluded]

    @property
    def device_patterns(self) -> list[str]:
        """Patterns of the devices that can have such attributes."""
        return sorted({"/".join(pattern[:3]) for pattern in self._patterns})

    def wants_device(self, name: str) -> bool:
        """Whether some attribute of a device can be wanted."""
        return any(_matches(name.lower().split("/"), pattern[:3]) for pattern in self._patterns)

    def wants(self, name: str) -> bool:
        """Whether an attribute is wanted, by its full name."""
        parts = name.lower().split("/")
        return _any(parts, self._patterns) and not _any(parts, self._excluded)

    def names(self, name: str) -> bool:
        """Whether an attribute is wanted by name: one that cannot be archived is then a failure."""
        return name.lower().split("/") in self._patterns


def _split(pattern: str) -> list[str]:
    parts = pattern.strip().lower().split("/")
    if len(parts) != 4 or not all(parts):
        raise ValueError(
            f"{pattern!r} is no pattern of attributes: write domain/family/member/attribute, e.g. lab/*/*/*"
        )
    return parts


def _matches(parts: list[str], pattern: list[str]) -> bool:
    return len(parts) == len(pattern) and all(map(fnmatchcase, parts, pattern))


def _any(parts: list[str], patterns: list[list[str]]) -> bool:
    return any(_matches(parts, pattern) for pattern in patterns)
