"""Users and keys: what is read from outside, and what an instance remembers."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from pybrix.envoy.wire import API_KEY_BYTES, API_KEY_PREFIX
from pybrix.gateway.admission.accounts import AccountsFile
from pybrix.gateway.admission.users import (
    MAX_USERS_REMEMBERED,
    MAX_USERS_WANTED,
    Absent,
    User,
    UserCache,
    hash_key,
    make_key,
    read_key,
    read_user,
)
from pybrix.gateway.errors import AccountsUnavailable


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (b'{"name":"alice","rpm":5,"tpm":7}', User("alice", 5, 7)),
        (b'{"name":"alice"}', User("alice")),
        (b'{"name":"alice","rpm":5,"more":[1]}', User("alice", 5)),
        (b'{"name":"bob","rpm":5}', User("alice", 5)),
        (b'{"name":"alice","rpm":-1}', None),
        (b'{"name":"alice","rpm":"5"}', None),
        (b'{"name":"alice","rpm":1e300}', None),
        (b'{"rpm":5}', None),
        (b"[]", None),
        (b"", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
    ],
    ids=[
        "whole",
        "defaults",
        "unknown-field",
        "other-name",
        "negative",
        "text",
        "huge",
        "nameless",
        "list",
        "empty",
        "no-utf8",
        "deep",
    ],
)
def test_a_stored_user_is_read_or_is_none(text: bytes, want: User | None) -> None:
    assert read_user(text, "alice") == want


def test_a_user_is_written_as_aibrix_writes_it() -> None:
    assert msgspec.json.encode(User("alice", 5)) == b'{"name":"alice","rpm":5,"tpm":0}'


def test_a_key_is_of_the_length_that_envoy_looks_up_and_only_its_hash_is_stored() -> None:
    key, stored = make_key("alice", "2026-01-01T00:00:00Z", os.urandom)
    assert len(key) == API_KEY_BYTES
    assert key.startswith(API_KEY_PREFIX)
    assert stored.hash == hash_key(key)
    text = msgspec.json.encode(stored)
    assert key.encode() not in text
    assert read_key(text) == stored
    assert make_key("alice", "", os.urandom)[0] != key


@pytest.mark.parametrize("name", ["", "a\nb", "a\r\nx-pybrix-cluster: y", "é", " alice", "alice ", "x" * 257])
def test_a_name_that_cannot_be_in_a_header_gets_no_key(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        make_key(name, "", os.urandom)
    assert read_key(msgspec.json.encode({"hash": "0" * 64, "id": "0" * 8, "user": name})) is None


def test_a_user_is_looked_up_once_used_while_old_and_read_again() -> None:
    woken: list[bool] = []
    cache = UserCache(10.0, lambda: woken.append(True))
    assert [cache.find("alice", 0.0) for _ in range(3)] == [Absent.NOT_READ] * 3
    assert (cache.wanted(9), len(woken)) == (["alice"], 1)
    cache.put("alice", User("alice", 5), 1.0)
    assert cache.wanted(9) == []
    assert cache.find("alice", 10.0) == User("alice", 5)
    assert cache.wanted(9) == []
    assert cache.find("alice", 12.0) == User("alice", 5)
    assert cache.wanted(9) == ["alice"]


def test_an_unknown_user_stays_unknown_for_a_second() -> None:
    cache = UserCache(10.0)
    cache.find("mallory", 0.0)
    cache.put("mallory", None, 0.0)
    assert cache.find("mallory", 0.9) is Absent.UNKNOWN
    assert cache.wanted(9) == []
    assert cache.find("mallory", 1.1) is Absent.UNKNOWN
    assert cache.wanted(9) == ["mallory"]
    cache.put("mallory", User("mallory"), 1.2)
    assert cache.find("mallory", 1.3) == User("mallory")


def test_names_without_end_take_no_memory_without_end() -> None:
    cache = UserCache(10.0)
    for number in range(MAX_USERS_WANTED + 10):
        found = cache.find(f"user-{number}", 0.0)
    assert found is Absent.UNKNOWN
    assert len(cache.wanted(10**6)) == MAX_USERS_WANTED
    for number in range(MAX_USERS_REMEMBERED + 10):
        cache.put(f"user-{number}", None, 0.0)
    assert len(cache) == MAX_USERS_REMEMBERED
    assert cache.find("x" * 1000, 0.0) is Absent.UNKNOWN


async def test_a_file_keeps_users_and_keys_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "accounts.json"
    accounts = AccountsFile(path)
    _, key = make_key("alice", "", os.urandom)
    await accounts.put_user(User("alice", 5))
    await accounts.put_user(User("bob"))
    await accounts.add_key(key)
    again = AccountsFile(path)
    assert again.find_user("alice") == User("alice", 5)
    assert again.keys == [key]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["accounts.json"]
    assert await again.delete_user("alice")
    assert not await again.delete_user("alice")
    assert (AccountsFile(path).keys, await AccountsFile(path).list_users()) == ([], [User("bob")])


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"users": [{"name": ""}]}', b'{"keys": [{"hash": "x"}]}'])
def test_a_broken_file_is_an_error_and_not_an_empty_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "accounts.json"
    path.write_bytes(content)
    with pytest.raises(AccountsUnavailable, match="cannot be read"):
        AccountsFile(path)
