"""Single documents are taken out of a text, and what changed in texts is shown, within bounds."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authz.documents import find_name, split_documents, without, without_common_ends
from authz.text_diff import text_diff
from meshca.errors import Conflict, NotFound
from meshca.yaml_source import load_documents
from tests.authz.builders import document, to_yaml

WEB, API = (to_yaml(document(name)) + "\n" for name in ("web", "api"))
PEER = WEB.replace("AuthorizationPolicy", "PeerAuthentication")
TEXT = f"# of the shop\n---\n# the web\n{WEB}---  # and\n{API}--- {{}}\n"


def test_the_documents_of_a_text_are_the_text() -> None:
    assert "".join(split_documents(TEXT)) == TEXT
    names = [find_name(part) for part in split_documents(TEXT)]
    assert [None if name is None else name.name for name in names] == [None, "web", "api", None]


def test_a_mark_inside_a_block_ends_the_document_as_yaml_says() -> None:
    text = "a: |\n  text\n---\nb: 1\n"
    assert len(split_documents(text)) == len(load_documents(text, "x")) == 2


def test_takes_out_the_named_and_leaves_the_rest_as_it_was() -> None:
    assert without(TEXT, ["shop/web"]) == TEXT.replace(f"---\n# the web\n{WEB}", "")
    left = load_documents(without(TEXT, ["shop/web", "AuthorizationPolicy/shop/api"]), "x")
    assert [each.value for each in left] == [{}]


def test_refuses_a_name_that_nothing_has() -> None:
    with pytest.raises(NotFound, match="holds no shop/nobody"):
        without(TEXT, ["shop/web", "shop/nobody"])


def test_refuses_a_name_that_two_kinds_have_until_the_kind_is_named() -> None:
    both = f"{WEB}---\n{PEER}"
    with pytest.raises(Conflict, match="name AuthorizationPolicy/shop/web or PeerAuthentication"):
        without(both, ["shop/web"])
    assert without(both, ["PeerAuthentication/shop/web"]) == WEB


def test_the_difference_shows_only_what_differs_wherever_it_stands() -> None:
    changed = API.replace("api", "api2")
    diff = text_diff((("a", WEB), ("b", API)), (("c", f"{changed}---\n{WEB}"),))
    assert "web" not in diff
    assert "--- AuthorizationPolicy/shop/api\n+++ /dev/null" in diff
    assert "--- /dev/null\n+++ AuthorizationPolicy/shop/api2" in diff
    assert text_diff((("a", WEB),), (("b", f"---\n{WEB}"),)) == ""


def test_the_difference_shows_what_has_no_name_under_its_source() -> None:
    uncut = f"{WEB}...\n---  # and\n%YAML 1.2\n---\n{API}"
    changed = f"{WEB}...\n{API.replace('shop', 'shop2')}"
    diff = text_diff((("a.yaml", uncut),), (("a.yaml", changed),))
    assert "+++ a.yaml" in diff
    assert '"shop2"' in diff
    assert text_diff((("", WEB),), (("", f"{WEB}---\nspec: {{}}"),)).endswith("+spec: {}\n")
    assert text_diff((("a", "---\n"),), (("b", ""),)) == ""


def test_the_difference_is_bounded() -> None:
    many = "\n---\n".join(to_yaml(document(f"policy-{i}")) for i in range(2_000))
    diff = text_diff((), (("a", many),))
    assert len(diff) < 66_000
    assert diff.endswith("[the rest of the difference is left out]\n")
    long = WEB + f"# {'x' * 300_000}\n"
    assert text_diff((), (("a", long),)).endswith("characters: too long]\n")


PIECES = st.lists(st.sampled_from(["\n---\n", "\n---", "\n--", "---", "-", "\n", "a", "b", " "]))


@given(PIECES, PIECES, PIECES, PIECES)
@example(["\n---", "\n---\n"], [], ["\n---\n"], [])  # what is left stands twice in the text
def test_common_ends_are_whole_documents(
    start: list[str], one: list[str], other: list[str], end: list[str]
) -> None:
    old, new = ("".join([*start, *middle, *end]) for middle in (one, other))
    first, second = without_common_ends(old, new)
    parts, others = split_documents(old), split_documents(new)
    left, right = split_documents(first), split_documents(second)
    taken = len(parts) - len(left)
    assert taken == len(others) - len(right)
    places = [n for n in range(taken + 1) if parts[n : n + len(left)] == left]
    assert any(parts[:n] + right + parts[n + len(left) :] == others for n in places)


def test_what_both_texts_begin_and_end_with_is_left_out() -> None:
    changed = TEXT.replace("# the web", "# the net")
    assert without_common_ends(TEXT, changed) == (
        f"---\n# the web\n{WEB}",
        f"---\n# the net\n{WEB}",
    )
    assert without_common_ends(TEXT, f"{TEXT}---\n{PEER}")[1].endswith(PEER)
    assert without_common_ends(TEXT, TEXT) == ("--- {}\n", "--- {}\n")
