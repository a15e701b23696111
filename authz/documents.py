"""The documents of a text, one by one: to take single ones out, and to show what changed.

A line that begins with `---` ends a document in every YAML text, block scalars included (YAML
1.2.2, 9.1.2), so that a text is cut there without reading it. Comments stay with what is after the
mark before them.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from meshca.errors import Conflict, InvalidDocument, NotFound
from meshca.yaml_source import load_documents

_BEGIN: Final = "\n---"


class Name(NamedTuple):
    """What a document calls itself."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


def split_documents(text: str) -> list[str]:
    """Return the documents of `text`; joined they are `text` again."""
    parts: list[str] = []
    start = 0
    at = text.find(_BEGIN)  # regular expressions took most of the time of an apply
    while at >= 0:
        if _is_mark(text, at):
            parts.append(text[start : at + 1])
            start = at + 1
        at = text.find(_BEGIN, at + 1)
    return [part for part in (*parts, text[start:]) if part]


def without_common_ends(one: str, other: str) -> tuple[str, str]:
    """Return both without the documents that both begin with, and those that both end with."""
    start = _last_mark(one, _alike(one, other)) + 1
    one, other = one[start:], other[start:]
    end = _first_mark(one, len(one) - _alike(one[::-1], other[::-1])) + 1
    return one[:end], other[: len(other) - len(one) + end]


def _alike(one: str, other: str) -> int:
    """Return with how many equal characters both begin."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        if one[least:middle] == other[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least


def _last_mark(text: str, end: int) -> int:
    """Return where the last mark begins that is before `end` with what follows it, or -1."""
    at = text.rfind(_BEGIN, 0, end - 1) if end else -1
    while at >= 0 and not _is_mark(text, at):
        at = text.rfind(_BEGIN, 0, at)
    return at


def _first_mark(text: str, start: int) -> int:
    """Return where the first mark from `start` on begins; at the last character without one."""
    at = text.find(_BEGIN, start)
    while at >= 0 and not _is_mark(text, at):
        at = text.find(_BEGIN, at + 1)
    return at if at >= 0 else len(text) - 1


def _is_mark(text: str, at: int) -> bool:
    after = text[at + len(_BEGIN) : at + len(_BEGIN) + 1]
    return not after or after.isspace()


def find_name(text: str) -> Name | None:
    """Return the name of the one document in `text`, or None when it has none that can be read."""
    try:
        (document,) = load_documents(text, "")
        metadata = document.value["metadata"]
        name = Name(document.value["kind"], metadata["namespace"], metadata["name"])
    except (InvalidDocument, ValueError, KeyError, TypeError):
        return None
    return name if all(isinstance(part, str) for part in name) else None


def without(text: str, names: Sequence[str]) -> str:
    """Return `text` without the documents called `NAMESPACE/NAME`, or `KIND/NAMESPACE/NAME`.

    Raises NotFound for a name that no document has, and Conflict for one that two kinds have.
    """
    parts = split_documents(text)
    called = [find_name(part) for part in parts]
    gone: set[int] = set()
    for wanted in names:
        found = [i for i, name in enumerate(called) if name is not None and _is(name, wanted)]
        if not found:
            raise NotFound(f"the applied set holds no {wanted}")
        if len(found) > 1:
            kinds = " or ".join(str(called[i]) for i in found)
            raise Conflict(f"{wanted} is more than one document: name {kinds}")
        gone.update(found)
    return "".join(part for i, part in enumerate(parts) if i not in gone)


def _is(name: Name, wanted: str) -> bool:
    return wanted in (f"{name.namespace}/{name.name}", str(name))
