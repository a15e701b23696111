"""How values of `paths` are read: the four string forms, and path templates.

A path is what the proxy sees: normalised, without the query; case matters. A value that such a
path never is, because normalisation changes it, is an error.
"""

import re
from collections.abc import Iterable
from typing import Final

from authz.forms import Value, parse_form, to_strings
from authz.values import Paths, PathTemplate, Strings

LONGEST_PATH_SUFFIX: Final = 512
LONGEST_TEMPLATE: Final = 512
"""Proxies compare both with regular expressions. Envoy 1.40 does not bound their size in a matcher,
but from about 2,000 characters on RE2 needs seconds for one long path."""

_PATH = re.compile(r"[!-~]+")
_LITERAL = re.compile(r"[A-Za-z0-9._~%!$&'()+,;:@=-]+")
_NORMALISED_AWAY = re.compile(
    r"//|/\.\.?/|\\|%2[fF]|%5[cC]|%(?:4[1-9a-fA-F]|5[0-9aA]|6[1-9a-fA-F]|7[0-9aA]|3[0-9]"
    r"|2[dDeE]|5[fF]|7[eE])"
)
_SEGMENT = "[!-.0->@-~]+"
_REST = "[!->@-~]*"


def parse_path(text: str) -> Value | PathTemplate:
    """Return a path in one of the four forms, or a template with `{*}` or `{**}`."""
    if "{*}" in text or "{**}" in text:
        return parse_template(text)
    if "{" in text or "}" in text:
        raise ValueError(f"{text!r} has a brace: write %7B or %7D for a literal one")
    value = parse_form(text)
    if value.form == "present":
        return value
    if not _PATH.fullmatch(value.text):
        raise ValueError(f"{text!r} has characters that a path only holds percent-encoded")
    if "?" in value.text or "#" in value.text:
        raise ValueError(f"{text!r} never matches: the query is removed first, and # is refused")
    if value.form != "suffix" and not value.text.startswith("/"):
        raise ValueError(f"{text!r} never matches: a path begins with /")
    _check_normalised(text, value)
    if value.form == "suffix" and len(value.text) > LONGEST_PATH_SUFFIX:
        raise _too_long(text, "suffix", LONGEST_PATH_SUFFIX)
    return value


def _check_normalised(text: str, value: Value) -> None:
    ends_with_dots = value.form != "prefix" and value.text.endswith(("/.", "/.."))
    if ends_with_dots or _NORMALISED_AWAY.search(value.text):
        raise ValueError(
            f"{text!r} never matches: proxies remove dot segments and double slashes, turn \\ and "
            "%2F into / and decode letters, digits and -._~ first; write the path without them"
        )


def parse_template(text: str) -> PathTemplate:
    """Return a path template: `{*}` is one segment, `{**}` the rest, literal segments between."""
    if len(text) > LONGEST_TEMPLATE:
        raise _too_long(text, "template", LONGEST_TEMPLATE)
    if not text.startswith("/"):
        raise ValueError(f"{text!r} never matches: a path begins with /")
    body = text[1:].removesuffix("/")
    parts: list[str] = []
    for segment in body.split("/"):
        if segment in ("{*}", "{**}") and _REST in parts:
            raise ValueError(f"{text!r}: {{**}} must be the last operator of a template")
        parts.append(_segment_regex(text, segment))
    closing = "/" if text.endswith("/") else ""
    return PathTemplate(text, re.compile("/" + "/".join(parts) + closing))


def _segment_regex(text: str, segment: str) -> str:
    if segment == "{*}":
        return _SEGMENT
    if segment == "{**}":
        return _REST
    if not segment:
        raise ValueError(f"{text!r} has an empty segment, which no path has")
    if "*" in segment or "{" in segment or "}" in segment:
        raise ValueError(
            f"{text!r}: a segment of a template is {{*}}, {{**}} or literal, without `*`"
        )
    if not _LITERAL.fullmatch(segment):
        raise ValueError(f"{text!r} has characters that a path only holds percent-encoded")
    if segment in (".", "..") or _NORMALISED_AWAY.search(segment):
        raise ValueError(f"{text!r} never matches: proxies normalise {segment!r} away first")
    return re.escape(segment)


def _too_long(text: str, what: str, longest: int) -> ValueError:
    return ValueError(
        f"{text[:40]!r}... is longer than {longest} characters, which proxies cannot compare as a "
        f"{what}; write a shorter one, or an exact path or a prefix"
    )


def to_paths(values: Iterable[Value | PathTemplate]) -> Strings | Paths:
    """Return the OR of `values`; plain strings where there is no template."""
    strings = [value for value in values if isinstance(value, Value)]
    templates = {value.text: value for value in values if isinstance(value, PathTemplate)}
    if not templates:
        return to_strings(strings)
    ordered = tuple(templates[text] for text in sorted(templates))
    return Paths(to_strings(strings), ordered)
