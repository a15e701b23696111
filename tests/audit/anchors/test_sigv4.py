"""Signature Version 4: the examples that Amazon publishes for S3."""

from datetime import UTC, datetime

from audit.anchors.sigv4 import Credentials, encoded_path, encoded_query, signed_headers

# Amazon S3 API reference, "Examples: Signature Calculations": GET Object, GET Bucket.
CREDENTIALS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
NOW = datetime(2013, 5, 24, tzinfo=UTC)


def signature(method: str, path: str, query: str, headers: dict[str, str]) -> str:
    signed = signed_headers(
        method,
        path,
        query,
        b"",
        host="examplebucket.s3.amazonaws.com",
        headers=headers,
        credentials=CREDENTIALS,
        region="us-east-1",
        now=NOW,
    )
    return signed["authorization"].rpartition("Signature=")[2]


def test_signs_the_examples_as_they_are_published() -> None:
    assert signature("GET", "/test.txt", "", {"Range": "bytes=0-9"}) == (
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )
    assert signature("GET", "/", encoded_query({"prefix": "J", "max-keys": "2"}), {}) == (
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    )


def test_encodes_paths_and_queries_once_and_keeps_slashes_of_keys() -> None:
    assert encoded_path("bucket", "a b/c+d~e") == "/bucket/a%20b/c%2Bd~e"
    assert (
        encoded_query({"start-after": "a/b", "list-type": "2"}) == "list-type=2&start-after=a%2Fb"
    )


def test_a_session_token_is_sent_and_signed() -> None:
    headers = signed_headers(
        "GET",
        "/",
        "",
        b"",
        host="h",
        headers={},
        credentials=Credentials("id", "secret", "token"),
        region="r",
        now=NOW,
    )

    assert headers["x-amz-security-token"] == "token"
    assert "x-amz-security-token" in headers["authorization"]


def test_secrets_are_in_no_representation() -> None:
    assert "secret" not in repr(Credentials("id", "secret", "secret"))
