"""Where users and API keys are kept: one interface, and the file of a gateway without Redis."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from pybrix.gateway.admission.users import MAX_KEYS, ApiKey, User
from pybrix.gateway.errors import AccountsUnavailable


class Accounts(Protocol):
    """Users and API keys of one installation. Every method raises AccountsUnavailable when they cannot be reached."""

    async def get_user(self, name: str) -> User | None: ...

    async def put_user(self, user: User) -> None: ...

    async def delete_user(self, name: str) -> bool:
        """Delete a user and all its keys; whether it was there."""
        ...

    async def list_users(self) -> list[User]: ...

    async def list_keys(self) -> list[ApiKey]: ...

    async def add_key(self, key: ApiKey) -> None: ...

    async def delete_keys(self, hashes: Sequence[str]) -> None: ...


class _Saved(msgspec.Struct):
    users: list[User] = []
    keys: list[ApiKey] = []


class AccountsFile:
    """Implements `Accounts` in one file, for this user alone; the copy in memory is what counts.

    Raises:
        AccountsUnavailable: there is a file, and it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_there = path.exists()
        """Whether there was a file at the start."""
        saved = _read(path)
        self._users = {user.name: user for user in saved.users}
        self._keys = {key.hash: key for key in saved.keys}
        self._one_at_a_time = asyncio.Lock()

    @property
    def keys(self) -> list[ApiKey]:
        return list(self._keys.values())

    def find_user(self, name: str) -> User | None:
        return self._users.get(name)

    async def get_user(self, name: str) -> User | None:
        return self._users.get(name)

    async def put_user(self, user: User) -> None:
        async with self._one_at_a_time:
            await self._change({**self._users, user.name: user}, self._keys)

    async def delete_user(self, name: str) -> bool:
        async with self._one_at_a_time:
            users = {each: user for each, user in self._users.items() if each != name}
            keys = {each: key for each, key in self._keys.items() if key.user != name}
            was_there = len(users) < len(self._users)
            if was_there or len(keys) < len(self._keys):
                await self._change(users, keys)
            return was_there

    async def list_users(self) -> list[User]:
        return list(self._users.values())

    async def list_keys(self) -> list[ApiKey]:
        return self.keys

    async def add_key(self, key: ApiKey) -> None:
        async with self._one_at_a_time:
            await self._change(self._users, {**self._keys, key.hash: key})

    async def delete_keys(self, hashes: Sequence[str]) -> None:
        async with self._one_at_a_time:
            await self._change(self._users, {each: key for each, key in self._keys.items() if each not in hashes})

    async def keep_keys(self, keys: Sequence[ApiKey]) -> None:
        """Write these keys in place of all others."""
        async with self._one_at_a_time:
            await self._change(self._users, {key.hash: key for key in keys})

    async def _change(self, users: dict[str, User], keys: dict[str, ApiKey]) -> None:
        if len(keys) > MAX_KEYS:
            raise AccountsUnavailable(f"there are {MAX_KEYS} API keys already", "revoke some")
        content = msgspec.json.encode(_Saved(list(users.values()), list(keys.values())))
        try:
            await asyncio.to_thread(_write, self._path, content)
        except OSError as err:
            raise AccountsUnavailable(f"{self._path} cannot be written: {err.strerror}") from err
        self._users, self._keys = users, keys


def _read(path: Path) -> _Saved:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Saved)
    except FileNotFoundError:
        return _Saved()
    except (msgspec.MsgspecError, OSError) as err:
        # To go on without it would lock every client out and lose the file at the next change.
        raise AccountsUnavailable(f"{path} cannot be read: {err}") from err


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
