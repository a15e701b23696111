"""The public door's file of the lists of the CAs above."""

from admin.public import create_public_app
from meshca.errors import NotFound
from tests.admin.test_doors import get


def test_it_is_there_whole_or_not_at_all() -> None:
    given: list[bytes | None] = [b"PEM of all", None]

    def nobody(_: str) -> None:
        raise NotFound("none")

    app = create_public_app(
        nobody,  # type: ignore[arg-type]
        nobody,  # type: ignore[arg-type]
        nobody,  # type: ignore[arg-type]
        upper=lambda: given.pop(0),
    )

    whole, none = (get(app, "/crl/above.pem") for _ in range(2))

    assert (whole.status_code, whole.content) == (200, b"PEM of all")
    assert whole.headers["cache-control"] == "public, no-cache"
    assert none.status_code == 404
