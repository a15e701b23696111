"""Strict YAML that remembers lines: the reader of configuration and of policy files.

Refused beyond what PyYAML refuses: duplicate keys, anchors and aliases (the YAML bomb), tags,
keys that are not text, texts over a size, nesting over a depth. Scalars are those of YAML 1.2's
core schema: `y`, `no`, `on`, `12:30` and `012` stay text; only `true` and `false` are booleans.

The text is parsed once, by libyaml where PyYAML has it; values are built from its events.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from meshca.errors import InvalidDocument, Problem

MAXIMUM_BYTES = 4 * 1024 * 1024
MAXIMUM_DEPTH = 64
MAXIMUM_DOCUMENTS = 20_000

Path = tuple[str | int, ...]


_Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# YAML 1.2.2 section 10.3.2, without octal and hexadecimal numbers, infinities and not-a-number.
_SCALARS: Final[tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...]] = (
    (re.compile(r"|~|null|Null|NULL"), lambda _: None),
    (re.compile(r"true|True|TRUE"), lambda _: True),
    (re.compile(r"false|False|FALSE"), lambda _: False),
    (re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})"), int),
    (re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,17}(?:[eE][-+]?[0-9]{1,3})?"), float),
)
_PLAIN_TEXT: Final = re.compile(r"[^-+0-9~nNtTfF]")


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: plain values, and the line (from 1) on which each path begins."""

    value: Any
    source: str
    lines: dict[Path, int] = field(default_factory=dict)

    def line_of(self, path: Path) -> int:
        """Return the line of `path`, or of the nearest enclosing value that is in the text."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def problem(self, path: Path, message: str) -> Problem:
        """Return a Problem at `path` with this document's file and line."""
        return Problem(format_path(path), message, self.source, self.line_of(path))


def format_path(path: Path) -> str:
    """Return `("rules", 0, "from")` as `rules[0].from`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def load_documents(text: str, source: str) -> list[Document]:
    """Return every non-empty document of `text`; `source` names it in problems.

    Raises InvalidDocument with the file and line of what is wrong.
    """
    if len(text.encode(errors="replace")) > MAXIMUM_BYTES:
        raise _invalid(source, 0, f"larger than {MAXIMUM_BYTES} bytes")
    try:
        documents = list(_documents(text, source))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        raise _invalid(
            source, min(mark.line, text.count("\n")) + 1 if mark else 0, f"not YAML: {what}"
        ) from error
    except (RecursionError, ValueError) as error:
        raise _invalid(source, 0, f"not YAML we accept: {error}") from error
    if len(documents) > MAXIMUM_DOCUMENTS:
        raise _invalid(source, 0, f"more than {MAXIMUM_DOCUMENTS} documents")
    return documents


def _documents(text: str, source: str) -> Iterator[Document]:
    loader = _Loader(text)
    try:
        while not isinstance(loader.peek_event(), yaml.StreamEndEvent):
            if not isinstance(loader.get_event(), yaml.DocumentStartEvent):
                continue
            reader = _Reader(loader, source)
            value = reader.value((), 0)
            if value is not None:
                yield Document(value, source, reader.lines)
    finally:
        loader.dispose()


class _Reader:
    """Builds one document from the parser's events, noting the line of each path."""

    __slots__ = ("_loader", "_source", "lines")

    def __init__(self, loader: Any, source: str) -> None:
        self._loader = loader
        self._source = source
        self.lines: dict[Path, int] = {}

    def value(self, path: Path, depth: int) -> Any:
        """Return the next node's value; raises InvalidDocument for what is not allowed."""
        event = self._loader.get_event()
        line = event.start_mark.line + 1
        self._refuse_indirection(event)
        if depth > MAXIMUM_DEPTH:
            raise _invalid(self._source, line, f"nested deeper than {MAXIMUM_DEPTH}")
        self.lines.setdefault(path, line)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, depth)
        return _scalar(event.value) if event.implicit[0] else event.value

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        while not isinstance(self._loader.peek_event(), yaml.MappingEndEvent):
            event = self._loader.get_event()
            line = event.start_mark.line + 1
            self._refuse_indirection(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise _invalid(self._source, line, "a key is not text")
            key = str(event.value)
            inner = (*path, key)
            if key in result:
                raise _invalid(self._source, line, f"key {format_path(inner)} is given twice")
            self.lines[inner] = line
            result[key] = self.value(inner, depth + 1)
        self._loader.get_event()
        return result

    def _refuse_indirection(self, event: Any) -> None:
        """Refuse what could make a small text a large value, or a value another type."""
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _invalid(self._source, line, "anchors and aliases are not allowed")
        if event.tag is not None and event.tag != "!":
            raise _invalid(self._source, line, f"the tag {event.tag} is not allowed")

    def _sequence(self, path: Path, depth: int) -> list[Any]:
        result: list[Any] = []
        while not isinstance(self._loader.peek_event(), yaml.SequenceEndEvent):
            result.append(self.value((*path, len(result)), depth + 1))
        self._loader.get_event()
        return result


def _scalar(text: str) -> Any:
    """Return the value of a plain scalar."""
    if text and _PLAIN_TEXT.match(text):
        return text
    for pattern, build in _SCALARS:
        if pattern.fullmatch(text):
            return build(text)
    return text


def _invalid(source: str, line: int, message: str) -> InvalidDocument:
    return InvalidDocument([Problem("", message, source, line)])
