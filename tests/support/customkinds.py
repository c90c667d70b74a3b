"""A kind of one's own on the cluster of the contract suite, in a group of this test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.contract import APPLY, MERGE, Answer, Api
from tests.support.definitions import definition

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@dataclass(slots=True)
class Widgets:
    """Requests about widgets."""

    api: Api
    group: str

    def path(self, name: str = "", subresource: str = "") -> str:
        return self.api.at("widgets", name, subresource, group=self.group)

    def widget(self, name: str = "w", spec: Any = None, **more: Any) -> dict[str, Any]:
        built = {"apiVersion": f"{self.group}/v1", "kind": "Widget", "metadata": {"name": name}, **more}
        return built if spec is None else {**built, "spec": spec}

    async def create(self, spec: Any = None, *, name: str = "w", more: Any = None, **query: str) -> Answer:
        return await self.api.create(self.path(), self.widget(name, spec, **(more or {})), **query)

    async def patch(self, patch: Any, name: str = "w", subresource: str = "", **query: str) -> Answer:
        return await self.api.patch(self.path(name, subresource), patch, MERGE, **query)

    async def apply(self, spec: Any, manager: str, *, name: str = "w") -> Answer:
        return await self.api.patch(self.path(name), self.widget(name, spec), APPLY, fieldManager=manager)


def group_of(api: Api) -> str:
    return f"{api.namespace}.pybrix.dev"


def definition_in(group: str, schema: dict[str, Any], **version: Any) -> dict[str, Any]:
    crd = definition(schema, **version)
    crd["metadata"]["name"] = f"widgets.{group}"
    crd["spec"]["group"] = group
    return crd


@asynccontextmanager
async def widgets(api: Api, schema: dict[str, Any], **version: Any) -> AsyncIterator[Widgets]:
    """Define widgets with a schema until the block ends."""
    group = group_of(api)
    made = await api.create(DEFINITIONS, definition_in(group, schema, **version))
    assert made.code == 201, made.body
    try:
        async with asyncio.timeout(60):
            while (await api.get(api.at("widgets", group=group))).code != 200:  # noqa: ASYNC110 - HTTP has no event
                await asyncio.sleep(0.05)
        yield Widgets(api, group)
    finally:
        await api.delete(f"{DEFINITIONS}/widgets.{group}")


def causes(answer: Answer) -> list[tuple[str, str]]:
    """Return (field, message) of a refusal."""
    return [(c.get("field", ""), c["message"]) for c in answer.body["details"].get("causes", [])]
