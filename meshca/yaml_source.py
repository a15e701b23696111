"""Strict YAML that remembers lines: the reader of configuration and of policy files.

Refused beyond what PyYAML refuses: duplicate keys, anchors and aliases (the YAML bomb), tags,
keys that are not strings, texts over a size, nesting over a depth. `y`, `no`, `on` and friends
stay text: only `true` and `false` are booleans.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from meshca.errors import InvalidDocument, Problem

MAXIMUM_BYTES = 4 * 1024 * 1024
MAXIMUM_DEPTH = 64
MAXIMUM_DOCUMENTS = 20_000

Path = tuple[str | int, ...]


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader with two booleans, true and false, and without timestamps, anchors, great depth."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one node, refusing what could make a small text a large value."""
        event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it bare
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases are not allowed", problem_mark=event.start_mark
            )
        if self.depth >= MAXIMUM_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"nested deeper than {MAXIMUM_DEPTH}", problem_mark=event.start_mark
            )
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


_StrictLoader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it bare
    "tag:yaml.org,2002:bool", re.compile(r"true|True|TRUE|false|False|FALSE", re.X), list("tTfF")
)


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
        raise _invalid(source, mark.line + 1 if mark else 0, f"not YAML: {what}") from error
    except (RecursionError, ValueError) as error:
        raise _invalid(source, 0, f"not YAML we accept: {error}") from error
    if len(documents) > MAXIMUM_DOCUMENTS:
        raise _invalid(source, 0, f"more than {MAXIMUM_DOCUMENTS} documents")
    return documents


def _documents(text: str, source: str) -> Iterator[Document]:
    loader = _StrictLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                continue
            lines: dict[Path, int] = {}
            value = _plain(loader, node, (), lines, source)
            if value is not None:
                yield Document(value, source, lines)
    finally:
        loader.dispose()


def _plain(
    loader: _StrictLoader, node: yaml.Node, path: Path, lines: dict[Path, int], source: str
) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise _invalid(source, line, "a key is not text")
            key = str(key_node.value)
            if key in result:
                raise _invalid(source, line, f"key {format_path((*path, key))} is given twice")
            lines[(*path, key)] = line
            result[key] = _plain(loader, value_node, (*path, key), lines, source)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [
            _plain(loader, item, (*path, index), lines, source)
            for index, item in enumerate(node.value)
        ]
    return loader.construct_object(node)  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it bare


def _invalid(source: str, line: int, message: str) -> InvalidDocument:
    return InvalidDocument([Problem("", message, source, line)])
