"""Hosts as predicates: `:authority` as it was sent, compared as the engine compares it folded.

The engine takes a host in lower case and without a final dot before the port, if there is one
(`authz.request.folded_host`). A proxy cannot fold, so here each value becomes every spelling that
folds to it, and no other. Values are in lower case; Envoy refuses an authority that is not ASCII.
"""

import re
from collections.abc import Iterable, Iterator

from authz.predicates import HOST, Predicate, all_of, compare, is_present, matches_regex, negate
from authz.values import Strings

_WITH_PORT = re.compile(r"(.*):([0-9]+)")
_INTO_PORT = re.compile(r"(.*):([0-9]*)")


def host_predicates(values: Strings) -> Iterable[Predicate]:
    """Yield predicates of which one holds when a host matches `values`."""
    if values.present:
        yield _NOT_ONLY_A_DOT
    for text in sorted(values.exact):
        for spelling in _spellings(text):
            yield compare(HOST, "exact", spelling, ignore_case=True)
    for text in values.suffixes:
        for spelling in _spellings(text):
            yield compare(HOST, "suffix", spelling, ignore_case=True)
    for text in values.prefixes:
        yield from _prefix(text)


_NOT_ONLY_A_DOT = all_of((is_present(HOST), negate(compare(HOST, "exact", "."))))


def _spellings(text: str) -> Iterator[str]:
    """Yield what folds to `text`, or what ends with it once folded."""
    with_port = _WITH_PORT.fullmatch(text)
    name = text if with_port is None else with_port[1]
    if not name.endswith("."):
        yield text
    yield f"{text}."
    if with_port is not None:
        yield f"{name}.:{with_port[2]}"


def _prefix(text: str) -> Iterator[Predicate]:
    begins = compare(HOST, "prefix", text, ignore_case=True)
    into_port = _INTO_PORT.fullmatch(text)
    if into_port is None:
        yield (
            all_of((begins, negate(_is(rf"{re.escape(text)}(:[0-9]+)?"))))
            if text.endswith(".")
            else begins
        )
        return
    name, digits = into_port[1], into_port[2]
    more = "[0-9]*" if digits else "[0-9]+"
    if name.endswith("."):
        yield all_of((begins, negate(_is(re.escape(text) + more))))
    else:
        yield begins
    yield _is(rf"{re.escape(name)}\.:{digits}{more}")


def _is(regex: str) -> Predicate:
    return matches_regex(HOST, f"(?i){regex}")
