"""Reading a directory of policy files."""

import os
from pathlib import Path

import pytest

from authz.directory import MAXIMUM_BELOW, MAXIMUM_DEPTH, read_directory
from meshca.errors import InvalidDocument
from meshca.yaml_source import MAXIMUM_BYTES


def problem_of(directory: Path) -> str:
    with pytest.raises(InvalidDocument) as caught:
        read_directory(directory)
    (problem,) = caught.value.problems
    return str(problem)


def test_reads_yaml_files_in_order_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "d.YAML", "e.Yml", ".hidden.yaml", "README.md", "c.yaml.bak"):
        (tmp_path / name).write_text(name)
    assert [text for _, text in read_directory(tmp_path)] == ["a.yml", "b.yaml", "d.YAML", "e.Yml"]


def test_reads_a_mounted_config_map(tmp_path: Path) -> None:
    first = tmp_path / "..2026_11_01"
    first.mkdir()
    (first / "web.yaml").write_text("first")
    (tmp_path / "..data").symlink_to(first.name)
    (tmp_path / "web.yaml").symlink_to("..data/web.yaml")
    assert read_directory(tmp_path) == ((str(tmp_path / "web.yaml"), "first"),)

    second = tmp_path / "..2026_11_02"
    second.mkdir()
    (second / "web.yaml").write_text("second")
    (tmp_path / "..data_tmp").symlink_to(second.name)
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    assert read_directory(tmp_path) == ((str(tmp_path / "web.yaml"), "second"),)


def test_refuses_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot be listed: No such file" in problem_of(tmp_path / "missing")


def test_refuses_a_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").symlink_to("nowhere")
    assert "cannot be read" in problem_of(tmp_path)


def test_refuses_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_bytes(b"\xff\xfe")
    assert "'utf-8' codec can't decode" in problem_of(tmp_path)


def test_refuses_a_pipe_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "web.yaml")
    assert "it is not a file" in problem_of(tmp_path)


def test_refuses_a_huge_file_without_reading_it_all(tmp_path: Path) -> None:
    with (tmp_path / "web.yaml").open("wb") as file:
        file.truncate(MAXIMUM_BYTES + 1)
    assert "larger than" in problem_of(tmp_path)


def test_refuses_policies_in_a_directory_below_which_would_not_be_in_force(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    assert read_directory(tmp_path) == ()
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "web.yaml").write_text("x")
    assert "directories inside a source are not read" in problem_of(tmp_path)


@pytest.mark.parametrize("below", ["shop/web.YML", "shop/orders/deny.yaml", "a/b/c/d/e/deny.yml"])
def test_refuses_policies_however_far_below(tmp_path: Path, below: str) -> None:
    file = tmp_path / below
    file.parent.mkdir(parents=True)
    file.write_text("x")
    assert f"{file.parent}: directories inside a source" in problem_of(tmp_path)


def test_refuses_policies_in_a_directory_that_a_link_leads_to(tmp_path: Path) -> None:
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    (source / "shop").mkdir(parents=True)
    (elsewhere / "orders").mkdir(parents=True)
    (elsewhere / "orders" / "deny.yaml").write_text("x")
    (source / "shop" / "link").symlink_to(elsewhere)
    assert "directories inside a source are not read" in problem_of(source)


def test_a_link_back_to_the_source_is_no_directory_inside(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "up").symlink_to(tmp_path)
    (tmp_path / "empty" / ".hidden").mkdir()
    (tmp_path / "empty" / ".hidden" / "deny.yaml").write_text("x")
    assert len(read_directory(tmp_path)) == 1


def test_refuses_what_it_cannot_look_through(tmp_path: Path) -> None:
    deep, wide = tmp_path / "deep", tmp_path / "wide"
    deep.joinpath(*["d"] * (MAXIMUM_DEPTH + 1)).mkdir(parents=True)
    assert f"more than {MAXIMUM_DEPTH} directories are in one another" in problem_of(deep)
    (wide / "many").mkdir(parents=True)
    for number in range(MAXIMUM_BELOW + 1):
        (wide / "many" / str(number)).touch()
    assert f"more than {MAXIMUM_BELOW} names are below the source" in problem_of(wide)
