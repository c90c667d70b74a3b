"""Pod IPs: one per UID, kept, and not reused soon."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybrix.api.identity import Uid
from pybrix.cluster.nodeagent.addresses import AddressesExhausted, AddressPool


def uids(count: int) -> list[Uid]:
    return [Uid(f"uid-{n}") for n in range(count)]


def test_every_pod_keeps_an_address_of_its_own(tmp_path: Path) -> None:
    pool = AddressPool(tmp_path / "a.json", "127.65.0.0/16")
    got = [pool.address(uid) for uid in uids(300)]
    assert len(set(got)) == 300
    assert got[0] == "127.65.0.1"
    assert [pool.address(uid) for uid in uids(300)] == got


def test_addresses_survive_a_restart(tmp_path: Path) -> None:
    first = AddressPool(tmp_path / "a.json", "127.65.0.0/16")
    got = [first.address(uid) for uid in uids(3)]
    second = AddressPool(tmp_path / "a.json", "127.65.0.0/16")
    assert [second.get(uid) for uid in uids(3)] == got
    assert second.address(Uid("new")) not in got


def test_a_freed_address_comes_round_last(tmp_path: Path) -> None:
    pool = AddressPool(tmp_path / "a.json", "127.65.0.0/29")
    one, two, three = uids(3)
    freed = pool.address(one)
    pool.release(one)
    again = AddressPool(tmp_path / "a.json", "127.65.0.0/29")
    got = [again.address(Uid(f"other-{n}")) for n in range(5)]
    assert freed not in got
    assert again.address(two) == freed
    with pytest.raises(AddressesExhausted, match="all 6 addresses"):
        again.address(three)


def test_a_torn_file_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"next": 1, "addr')
    assert AddressPool(tmp_path / "a.json", "127.65.0.0/16").address(Uid("u")) == "127.65.0.1"


def test_another_cidr_gives_new_addresses(tmp_path: Path) -> None:
    AddressPool(tmp_path / "a.json", "127.65.0.0/16").address(Uid("u"))
    assert AddressPool(tmp_path / "a.json", "127.66.0.0/16").address(Uid("u")).startswith("127.66.")
