"""Reading a directory of policy files."""

import os
from pathlib import Path

import pytest

from authz.directory import read_directory
from meshca.errors import InvalidDocument
from meshca.yaml_source import MAXIMUM_BYTES


def problem_of(directory: Path) -> str:
    with pytest.raises(InvalidDocument) as caught:
        read_directory(directory)
    (problem,) = caught.value.problems
    return str(problem)


def test_reads_yaml_files_in_order_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", ".hidden.yaml", "README.md", "c.yaml.bak"):
        (tmp_path / name).write_text(name)
    assert [text for _, text in read_directory(tmp_path)] == ["a.yml", "b.yaml"]


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
