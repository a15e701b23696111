"""A YAML file as a strict model: every mistake at once, each with file, line and the key's path.

An unknown key, a wrong type, a value that a validator refuses: all of them are problems of the
document, reported together, and nothing is made of it. Relative paths are relative to the file.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo

from meshca.durations import parse_duration
from meshca.errors import InvalidDocument, Problem
from meshca.yaml_source import Document, load_documents

# Keys whose value chooses one of several models; pydantic puts that value into locations.
_TAGS = ("kind", "method")


class Strict(BaseModel):
    """The base of such models: frozen, no unknown key, no conversion, no input in messages."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


def _duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError("write a duration as text, like 90s, 1h or 7d")
    duration = parse_duration(value)
    if not duration:
        raise ValueError("the duration is zero")
    return duration


def _file(value: Any, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError("write a path as text")
    base: Path = (info.context or {}).get("directory", Path())
    return base / value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
File = Annotated[Path, BeforeValidator(_file)]
Model = TypeVar("Model", bound=Strict)


def read_mapping(path: Path) -> Document:
    """Return the one YAML mapping in `path`; raises InvalidDocument."""
    source = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDocument([Problem("", f"cannot be read: {error}", source)]) from error
    documents = load_documents(text, source)
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise InvalidDocument([Problem("", "must be one YAML mapping", source)])
    return documents[0]


def validate(model: type[Model], document: Document, path: Path) -> Model:
    """Return `document`, which was read from `path`, as `model`.

    Raises InvalidDocument with every problem, each with the file, the line and the key's path.
    """
    try:
        return model.model_validate(document.value, context={"directory": path.absolute().parent})
    except ValidationError as error:
        raise InvalidDocument([_problem(document, e) for e in error.errors()]) from error


def _problem(document: Document, error: Any) -> Problem:
    path = _without_tags(error["loc"], document.value)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "unknown key"
    elif error["type"] == "missing":
        message = "missing"
    return document.problem(path, message)


def _without_tags(location: tuple[str | int, ...], value: Any) -> tuple[str | int, ...]:
    """Return `location` without the union tags that pydantic puts into it (`upstream.disk.key`)."""
    path: list[str | int] = []
    for part in location:
        if isinstance(value, dict) and any(value.get(tag) == part for tag in _TAGS):
            continue
        path.append(part)
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            value = None
    return tuple(path)
