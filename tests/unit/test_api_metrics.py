"""The node in numbers: what Prometheus reads of it, and that the reference page names each."""

from __future__ import annotations

import errno
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from scapp.runtime import sizes
from scapp.runtime.api.derived import DerivedData
from scapp.runtime.database.server import ServerBackend
from scapp.runtime.modules import Modules
from scapp.runtime.progress import Meters
from scapp.runtime.sizes import log_bytes
from scapp.runtime.worker_status import State
from tests.support.api_harness import Harness, served
from tests.support.fake_service import BOB
from tests.support.postgres import SignedLog, channel, worker_for
from tests.support.tree import ROOT

SAMPLE = re.compile(r'(scapp_\w+)(\{(?:\w+="(?:[^"\\]|\\.)*",?)+\})? (-?\d+(?:\.\d+)?)')


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with served(tmp_path_factory.mktemp("metrics") / "alice") as harness:
        harness.channel(number=9)
        harness.books.put_ledger(8, BOB)
        harness.books.put_virtual(7, BOB)
        yield harness


def read(node: Harness, token: str = "") -> tuple[str, str]:
    """Media type and text."""
    headers = {"Authorization": f"Bearer {token or node.operator}"}
    request = urllib.request.Request(node.url + "/v1/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.headers["Content-Type"], response.read().decode()


def samples(text: str) -> dict[str, float]:
    """By name and labels; asserts that each line is a sample, or says what follows."""
    found: dict[str, float] = {}
    families: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            family, kind = line.split()[2:]
            assert family not in families
            assert kind == ("counter" if family.endswith("_total") else "gauge")
            families.add(family)
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups()
            assert name in families
            assert name + (labels or "") not in found
            found[name + (labels or "")] = float(value)
    return found


def test_every_line_is_a_sample_and_says_how_the_node_stands(node: Harness) -> None:
    media_type, text = read(node)
    assert media_type.startswith("text/plain; version=0.0.4")
    found = samples(text)
    assert (found["scapp_signing"], found["scapp_corrupt_channels"], found["scapp_batches_total"]) == (1, 0, 1)
    assert found['scapp_channels{phase="running"}'] == 1
    assert found['scapp_ledgers{phase="running"}'] == 1
    assert sum(value for name, value in found.items() if name.startswith("scapp_virtual_channels{")) == 1
    assert len([name for name in found if name.startswith("scapp_ledger_amount{")]) % 3 == 0
    assert found["scapp_disk_free_bytes"] > 0
    assert found["scapp_memory_bytes"] > 0


def test_a_log_that_takes_no_more_writes_shows(node: Harness) -> None:
    node.log_failure = "no space left on device"
    try:
        assert samples(read(node)[1])["scapp_signing"] == 0
        assert node.client.status().disk_free_bytes
    finally:
        node.log_failure = ""


def test_what_the_database_has_of_a_channel_costs_no_copy_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings and lists ask for each channel: with a copy of all for each they would be quadratic."""
    contexts = [channel(number) for number in (1, 2)]
    backend = ServerBackend("postgresql://nobody@127.0.0.1:1/none")
    worker = worker_for(SignedLog(*contexts), backend)
    derived = DerivedData(worker, backend, SignedLog(), Modules(Path("none"), Path("none")), Meters())
    assert derived.cursor(contexts[0].channel_id) is None
    for context in contexts:
        worker._set(context.channel_id, State.BLOCKED, f"why {context.channel_id.hex()}")
    copies: list[int] = []
    monkeypatch.setattr(worker, "status", lambda: copies.append(1) or {})
    for context in contexts:
        view = derived.cursor(context.channel_id)
        assert view is not None
        assert (view.state, view.detail) == ("blocked", f"why {context.channel_id.hex()}")
    assert not copies
    worker.stop()


def test_what_a_peer_names_itself_stays_inside_its_label() -> None:
    from scapp.runtime.api.metrics import _labels

    assert _labels({"peer": 'a"b\\c\nd'}) == '{peer="a\\"b\\\\c\\nd"}'


def test_without_a_token_there_are_no_numbers(node: Harness) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        read(node, "nobody")


def test_every_family_is_in_the_reference(node: Harness) -> None:
    """Those of a node with a chain too, which the code names."""
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    code = (ROOT / "runtime" / "scapp" / "runtime" / "api" / "metrics.py").read_text()
    for name in {*re.findall(r'(?:one|family)\(\s*"(\w+)"', code)}:
        assert f"`scapp_{name}`" in page, name
    assert msgspec.json.decode(msgspec.json.encode(node.client.status()))["log_bytes"] == log_bytes(node.home)


def test_a_disk_that_does_not_answer_takes_no_other_number_away(node: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the status, which says that it does not know."""

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(sizes.shutil, "disk_usage", fails)
    (node.home / "log").touch()  # where a directory should be
    try:
        found, status = samples(read(node)[1]), node.client.status()
    finally:
        (node.home / "log").unlink()
    assert found["scapp_signing"] == 1
    assert not {"scapp_log_bytes", "scapp_disk_free_bytes"} & set(found)
    assert (status.log_bytes, status.disk_free_bytes) == (None, None)


def test_the_size_of_a_log_is_that_of_its_files(tmp_path: Path) -> None:
    assert log_bytes(tmp_path) == 0
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "000001.sst").write_bytes(b"12345")
    assert log_bytes(tmp_path) == 5
