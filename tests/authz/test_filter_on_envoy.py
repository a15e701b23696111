"""Single points of the compiled filters that random cases do not reach, on a real Envoy."""

from collections.abc import Iterator

import pytest

from authz.compile import DEFAULT_DENY, SEVERAL_URI_SANS
from authz.engine import compile_workload
from tests.authz.builders import ORDERS, document, load, rule
from tests.authz.proxy import Case, Client, Message, Ports, Proxy, running_proxy

pytestmark = pytest.mark.end_to_end

MANY = [f"example.org/ns/shop/sa/web-{number}" for number in range(10_000)]
WEB = "spiffe://example.org/ns/shop/sa/web"
LONG = "x" * 300
CASES = {
    "suffix": load(document(rules=[rule({"principals": ["*/sa/web"]})])),
    "open": load(document(rules=[{}])),
    "many": load(
        document("many", rules=[rule({"principals": MANY}, {"methods": ["GET"]})]),
        document("others", rules=[rule({"principals": ["*-7"]}, {"methods": ["PUT"]})]),
    ),
    "admin": load(
        document("all", rules=[{}]),
        document("no-admin", action="DENY", rules=[rule(None, {"paths": ["/admin"]})]),
    ),
    "long": load(document(rules=[rule(None, {"paths": [f"*{LONG}.json"]})])),
    "none": load(),
    "none, default allow": load(default="allow"),
    "DENY GET": load(
        document("all", rules=[{}]),
        document("no-get", action="DENY", rules=[rule(None, {"methods": ["GET"]})]),
    ),
}
NUMBERS = {name: number for number, name in enumerate(CASES)}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    compiled = [Case(compile_workload(policies, ORDERS)) for policies in CASES.values()]
    with running_proxy(tmp_path_factory.mktemp("envoy"), Ports.free(), compiled) as proxy:
        yield proxy


def answer(
    proxy: Proxy, case: str, *uris: str, method: str = "GET", path: str = "/"
) -> tuple[bool, str]:
    """Return whether the proxy let the request pass, and the name of what decided."""
    port = proxy.ports.first if uris else proxy.ports.plaintext
    got = proxy.send(NUMBERS[case], Client(uris, port), Message(method, path))
    return got.allowed, got.decided_by


def connect(proxy: Proxy, case: str, *uris: str, sni: str = "a") -> bool:
    """Return whether a TLS connection may carry bytes."""
    return proxy.connect(Client(uris, proxy.ports.first, sni=f"{sni}.case-{NUMBERS[case]}.test"))


def test_a_peer_with_two_uri_sans_is_refused_whatever_the_policy(proxy: Proxy) -> None:
    both = ("spiffe://example.org/ns/other/sa/x", WEB)
    assert answer(proxy, "open", *both) == (False, SEVERAL_URI_SANS)
    assert answer(proxy, "suffix", *both) == (False, SEVERAL_URI_SANS)
    assert answer(proxy, "suffix", WEB) == (True, "")


def test_a_uri_that_is_no_spiffe_id_is_no_identity(proxy: Proxy) -> None:
    assert answer(proxy, "suffix", "https://example.org/ns/shop/sa/web") == (False, DEFAULT_DENY)


def test_a_map_of_many_principals_matches_each_and_goes_on_after_a_miss(proxy: Proxy) -> None:
    def listed(number: int, method: str) -> tuple[bool, str]:
        return answer(proxy, "many", f"spiffe://{MANY[number]}", method=method)

    assert listed(0, "GET") == (True, "")
    assert listed(9_999, "GET") == (True, "")
    assert listed(7, "PUT") == (True, "")
    assert listed(8, "PUT") == (False, DEFAULT_DENY)
    assert answer(proxy, "many", WEB) == (False, DEFAULT_DENY)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/admin", False),
        ("/admin?x=1", False),
        ("//admin", False),
        ("/a/../admin", False),
        ("/%61dmin", False),
        ("/\\admin", False),
        ("/admin/", True),
        ("/Admin", True),
        ("/admin;x", True),
    ],
)
def test_an_exact_path_is_compared_after_normalisation(
    proxy: Proxy, path: str, allowed: bool
) -> None:
    expected = (True, "") if allowed else (False, "ns[shop]-policy[no-admin]-rule[0]")
    assert answer(proxy, "admin", WEB, path=path) == expected


def test_a_long_suffix_is_matched_whole(proxy: Proxy) -> None:
    assert answer(proxy, "long", WEB, path=f"/{LONG}.json?q") == (True, "")
    assert answer(proxy, "long", WEB, path=f"/{LONG[1:]}.json") == (False, DEFAULT_DENY)
    assert answer(proxy, "long", WEB, path=f"/{LONG}ajson") == (False, DEFAULT_DENY)


@pytest.mark.parametrize("uris", [(), (WEB,)], ids=["plaintext", "mutual TLS"])
def test_no_policy_means_the_default(proxy: Proxy, uris: tuple[str, ...]) -> None:
    assert answer(proxy, "none", *uris) == (False, DEFAULT_DENY)
    assert answer(proxy, "none, default allow", *uris) == (True, "")


def test_a_deny_of_a_method_denies_tcp(proxy: Proxy) -> None:
    assert connect(proxy, "open", WEB)
    assert not connect(proxy, "DENY GET", WEB)
    assert answer(proxy, "DENY GET", WEB, method="PUT") == (True, "")
