"""A directory with a log belongs to one key: nothing offers another."""

from __future__ import annotations

from pathlib import Path

import pytest

from scapp.channels.errors import LocalError
from scapp.runtime.keys_file import CHAIN_KEY, CHANNEL_KEY, key_info, load_key, new_key


def test_a_log_without_its_key_asks_for_that_key_and_for_no_new_one(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(LocalError, match="written under one; put that one to") as refused:
        load_key(tmp_path, lambda: "")
    assert "keys new" not in str(refused.value)
    with pytest.raises(LocalError, match="has a log of another key"):
        new_key(tmp_path)
    assert new_key(tmp_path, role=CHAIN_KEY) == key_info(tmp_path, CHAIN_KEY)
    assert not (tmp_path / CHANNEL_KEY).exists()


def test_an_empty_directory_says_how_to_make_a_key(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"create one with `scapp -C .* keys new`"):
        load_key(tmp_path, lambda: "")
