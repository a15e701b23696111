"""Errors: what they carry, and that callers see none of our insides."""

import inspect

import pytest

from meshca import errors
from meshca.errors import (
    IdentityForbidden,
    InvalidDocument,
    MeshcaError,
    NotFound,
    Problem,
    ProofRefused,
    Refused,
    RequestRefused,
    StoreUnavailable,
    Unavailable,
)

CLASSES = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MeshcaError)
]


def test_the_tree_in_the_docstring_names_every_error() -> None:
    assert errors.__doc__ is not None
    assert [kind.__name__ for kind in CLASSES if kind.__name__ not in errors.__doc__] == []


@pytest.mark.parametrize("kind", [ProofRefused, IdentityForbidden])
def test_a_refusals_reason_and_claims_stay_inside(kind: type[Refused]) -> None:
    error = kind("expired", "the token of uid 1234 expired", claimed={"sub": "x"})
    assert (error.reason, error.claimed) == ("expired", {"sub": "x"})
    assert "1234" not in error.public_message
    assert "expired" not in error.public_message


@pytest.mark.parametrize(
    "kind", [kind for kind in CLASSES if issubclass(kind, Unavailable)], ids=lambda k: k.__name__
)
def test_what_is_unavailable_is_not_said_to_callers(kind: type[Unavailable]) -> None:
    assert kind("postgres at 10.0.0.7 is down").public_message == "temporarily unavailable; retry"


def test_a_bad_request_and_a_missing_thing_are_explained_to_the_caller() -> None:
    assert RequestRefused("csr", "the key is weak").public_message == "the key is weak"
    assert NotFound("no certificate ab").public_message == "no certificate ab"


def test_an_invalid_document_shows_every_problem() -> None:
    error = InvalidDocument(
        [
            Problem("a.b", "unknown key", "f.yaml", 3),
            Problem("c", "missing", "f.yaml"),
            Problem("", "not YAML"),
        ]
    )
    assert str(error).splitlines() == [
        "f.yaml:3: a.b: unknown key",
        "f.yaml: c: missing",
        "not YAML",
    ]


def test_an_error_we_did_not_word_says_nothing() -> None:
    assert MeshcaError("secret").public_message == "internal error"
    assert issubclass(StoreUnavailable, MeshcaError)
