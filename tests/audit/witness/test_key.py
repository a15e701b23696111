"""The witness's key: made once, and never one that others can read."""

from pathlib import Path

import pytest

from audit.note import COSIGNATURE
from audit.witness.key import load_witness_key
from ca.keys import private_key_pem
from meshca.errors import StoreUnavailable
from tests.builders import make_key


def test_is_made_once_for_our_user_only(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "witness.key"

    key = load_witness_key(path, "example.org/meshca/witness")

    assert key.algorithm == COSIGNATURE
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_witness_key(path, key.name).verifier == key.verifier


def test_a_key_that_will_not_do_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "witness.key"
    for content, mode, problem in (
        (b"no key", 0o600, "no private key that opens"),
        (private_key_pem(make_key()), 0o600, "no Ed25519 key"),
        (b"", 0o644, "others can read it"),
    ):
        path.write_bytes(content)
        path.chmod(mode)
        with pytest.raises(StoreUnavailable, match=problem):
            load_witness_key(path, "w")
        assert path.read_bytes() == content
