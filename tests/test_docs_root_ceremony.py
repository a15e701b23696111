"""docs/root-ceremony.md, typed in order: its plans are held, its commands do what it says."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

from ca.ceremony import plan
from ca.revocation.upper import find_upper
from ca.upstream.disk import DiskIntermediate
from ca.upstream.list_files import ListFiles
from meshca.clock import SystemClock
from tests.end_to_end.server import MESHCA
from tests.real_parts import ROOT, require

DOCUMENT = (ROOT / "docs" / "root-ceremony.md").read_text()
BLOCK = re.compile(r"^```(yaml|console)(?: (\S+))?\n(.*?)^```$", re.M | re.S)
# A person types the passphrase; here it comes from a descriptor.
TYPIST = """\
meshca() {
  case "$*" in
    *--dry-run*|"root request"*) command meshca "$@" ;;
    *) command meshca "$@" --passphrase-fd 3 3<<< "correct horse battery staple" ;;
  esac
}
"""


def steps() -> Iterator[tuple[str, str, str]]:
    """Yield what a reader does, in order: ("file", name, text) or ("run", command, output)."""
    for kind, name, body in BLOCK.findall(DOCUMENT):
        if kind == "yaml" and name:
            yield "file", name, body
        elif kind == "console":
            for part in re.split(r"^\$ ", body, flags=re.M)[1:]:
                command, _, output = part.partition("\n")
                yield "run", command, output


def run(directory: Path, command: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", TYPIST + command],
        cwd=directory,
        env={**os.environ, "PATH": f"{MESHCA.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_document_can_be_followed_to_a_running_upstream(tmp_path: Path) -> None:
    require(shutil.which("openssl") is not None, "openssl", "apt-get install openssl")
    for kind, what, text in steps():
        if kind == "file":
            (tmp_path / what).write_text(text)
        else:
            assert text.strip() in run(tmp_path, what)

    upstream = DiskIntermediate(
        root=tmp_path / "root.pem",
        chain=tmp_path / "chain.pem",
        key=tmp_path / "intermediate.key",
        passphrase_file=None,
        trust_domain="example.org",
        list_files=ListFiles((tmp_path / "crl-2.pem",)),
    )
    now = SystemClock().now()
    authority = upstream.provide(now).authority
    crl = x509.load_pem_x509_crl((tmp_path / "crl-2.pem").read_bytes())
    serial = authority.certificate.serial_number
    assert crl.get_revoked_certificate_by_serial_number(serial) is not None
    upper = find_upper([authority.chain], authority_roots(tmp_path), upstream.lists(now), now)
    assert (len(upper.lists), upper.missing) == (1, ())
    assert upstream.revokes(authority.certificate, now)


def authority_roots(directory: Path) -> list[x509.Certificate]:
    """Return the roots that the document made."""
    return x509.load_pem_x509_certificates((directory / "root.pem").read_bytes())


def test_every_key_of_a_plan_is_in_the_table() -> None:
    models = (plan.RootPlan, plan.IntermediatePlan, plan.PlannedIntermediate, plan.CrlPlan)
    keys = {key for model in models for key in model.model_fields} - {"ceremony"}
    table = DOCUMENT.partition("## The plan, key by key")[2].partition("\n## ")[0]
    assert {key for key in keys if f"`{key}`" not in table} == set()
    assert f"up to {plan.MOST_CERTIFICATES}" in table
