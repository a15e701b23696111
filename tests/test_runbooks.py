"""What the documents' openssl commands make is what the service takes."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from ca.upstream.disk import DiskIntermediate
from meshca.clock import SystemClock
from meshca.errors import AuthorityUnavailable
from tests.openssl import make_authority


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Return a directory in which the commands were run."""
    make_authority(tmp_path)
    return tmp_path


def upstream(directory: Path, trust_domain: str = "example.org") -> DiskIntermediate:
    return DiskIntermediate(
        root=directory / "root.pem",
        chain=directory / "chain.pem",
        key=directory / "intermediate.key",
        passphrase_file=None,
        trust_domain=trust_domain,
    )


def test_the_service_signs_with_the_intermediate_of_the_runbook(made: Path) -> None:
    now = SystemClock().now()

    authority = upstream(made).provide(now).authority

    assert timedelta(days=89) < authority.not_after - now <= timedelta(days=90)


def test_the_intermediate_is_for_one_trust_domain(made: Path) -> None:
    with pytest.raises(AuthorityUnavailable, match="not for trust domain"):
        upstream(made, "example.com").provide(SystemClock().now())


def test_the_roots_key_is_encrypted(made: Path) -> None:
    assert "ENCRYPTED" in (made / "root.key").read_text()


def test_the_intermediate_can_sign_no_other_authority(made: Path) -> None:
    chain = x509.load_pem_x509_certificate((made / "chain.pem").read_bytes())

    constraints = chain.extensions.get_extension_for_class(x509.BasicConstraints).value

    assert constraints.path_length == 0
