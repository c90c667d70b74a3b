"""What `pybrix rollout`, `pybrix plan` and `pybrix get` do; imported only when they run."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click
import msgspec
import yaml

from pybrix.api import names
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import find_condition
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.base.clock import SystemClock, format_rfc3339, parse_rfc3339
from pybrix.base.errors import PybrixError, UsageError
from pybrix.cli.access import find_access_of_user
from pybrix.cli.fleettarget import Place
from pybrix.cli.tables import render_table
from pybrix.controllers.rayclusterfleet.plan import find_revision, is_complete
from pybrix.controllers.rayclusterfleet.render import comparable_template, is_same_template
from pybrix.controllers.rayclusterfleet.rollout import foresee
from pybrix.controllers.rayclusterfleet.state import Observed, observe, problem
from pybrix.kube.client import HttpClient
from pybrix.kube.errors import NotFound
from pybrix.kube.interface import Client
from pybrix.runtime.rollout.revisions import ROLLBACK_TO, revision

POLL_S = 0.5
CHANGE_CAUSE = "kubernetes.io/change-cause"
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
NO_KIND = UsageError("this cluster knows no RayClusterFleet", "pybrix crds | kubectl apply --server-side -f -")


class RolloutStuck(PybrixError):
    """A rollout that makes no progress, or took longer than somebody would wait."""


def _run(
    place: Place,
    work: Callable[[Client, str], Awaitable[None]],
) -> None:
    access = find_access_of_user(place.kubeconfig, place.data_dir_path)

    async def run() -> None:
        async with HttpClient(access) as client:
            await work(client, place.namespace or access.namespace)

    asyncio.run(run())


async def fetch_fleet(client: Client, key: ObjectKey) -> RayClusterFleet:
    """Return a fleet.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        return await client.get(RayClusterFleet, key)
    except NotFound:
        remedy = "`pybrix get fleets -A` lists all"
        raise UsageError(f"there is no RayClusterFleet {key.name!r} in namespace {key.namespace}", remedy) from None


async def observe_fleet(client: Client, key: ObjectKey) -> Observed:
    """Return a fleet with the sets that it controls.

    Raises:
        UsageError: there is no such fleet, or it cannot be worked on.
    """
    fleet = await fetch_fleet(client, key)
    if why := problem(fleet):
        raise UsageError(f"RayClusterFleet {key} cannot be rolled out: {why}")
    sets = (await client.list(RayClusterReplicaSet, key.namespace)).items
    return observe(fleet, [s for s in sets if (owner := s.metadata.controller) is not None and owner.uid == fleet.uid])


# Status


def describe_progress(fleet: RayClusterFleet) -> str:
    """Return one line that says how the rollout is going."""
    status, wanted = fleet.status, fleet.spec.replicas
    if fleet.status.observed_generation < fleet.metadata.generation:
        return "waiting for the controller to see the change"
    held = " (paused)" if fleet.spec.paused else ""
    if status.updated_replicas < wanted:
        return f"{status.updated_replicas} of {wanted} new clusters exist, {status.available_replicas} available{held}"
    if status.replicas > status.updated_replicas:
        return f"{status.replicas - status.updated_replicas} old clusters are on their way out{held}"
    return f"{status.available_replicas} of {wanted} clusters are available{held}"


def is_stuck(fleet: RayClusterFleet) -> bool:
    condition = find_condition(fleet.status.conditions, "Progressing")
    reasons = ("ProgressDeadlineExceeded", "ReplicaSetCreateError")
    is_seen = fleet.status.observed_generation >= fleet.metadata.generation
    return is_seen and any(c is condition and c.reason in reasons for c in fleet.status.conditions)


def show_status(
    place: Place,
    name: str,
    *,
    is_waiting: bool,
    timeout_s: float,
    output: str,
) -> None:
    """Print how a rollout is going, until it is complete.

    Raises:
        RolloutStuck: it is stuck, or not complete after `timeout_s`.
    """

    async def work(client: Client, where: str) -> None:
        key = ObjectKey(where, name)
        fleet = await fetch_fleet(client, key)
        if output == "json":
            click.echo(msgspec.json.encode(summary_of(fleet)).decode())
        elif is_waiting:
            await _follow(client, key, timeout_s)
        else:
            click.echo("complete" if is_complete(fleet) else describe_progress(fleet))
        if not is_waiting and is_stuck(fleet):
            raise RolloutStuck(f"the rollout of fleet/{name} is stuck: {_why_stuck(fleet)}")

    _run(place, work)


async def _follow(client: Client, key: ObjectKey, timeout_s: float) -> None:
    last = ""
    try:
        async with asyncio.timeout(timeout_s or None):
            while not is_complete(fleet := await fetch_fleet(client, key)):
                if (line := describe_progress(fleet)) != last:
                    click.echo(line)
                    last = line
                if is_stuck(fleet):
                    raise RolloutStuck(f"the rollout of fleet/{key.name} is stuck: {_why_stuck(fleet)}")
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise RolloutStuck(f"fleet/{key.name} is not rolled out after {timeout_s:.0f} s: {last}") from None
    click.echo(f"fleet/{key.name} is rolled out: {fleet.status.available_replicas} clusters available")


def _why_stuck(fleet: RayClusterFleet) -> str:
    conditions = fleet.status.conditions
    told = [c.message for c in conditions if c.type in ("ReplicaFailure", "Progressing") and c.message]
    return "; ".join(told)


def summary_of(fleet: RayClusterFleet) -> dict[str, Any]:
    status = fleet.status
    return {
        "name": fleet.metadata.name,
        "namespace": fleet.metadata.namespace,
        "revision": revision(fleet.metadata.annotations),
        "replicas": fleet.spec.replicas,
        "updated": status.updated_replicas,
        "available": status.available_replicas,
        "isPaused": fleet.spec.paused,
        "isComplete": is_complete(fleet),
        "isStuck": is_stuck(fleet),
        "progress": describe_progress(fleet),
    }


# History and changes


def show_history(
    place: Place,
    name: str,
    *,
    number: int | None,
    output: str,
) -> None:
    """Print the revisions of a fleet, or the template of one.

    Raises:
        UsageError: there is no such revision.
    """

    async def work(client: Client, where: str) -> None:
        seen = await observe_fleet(client, ObjectKey(where, name))
        if number is not None:
            template = comparable_template(_revision(seen, number).spec.template)
            click.echo(
                msgspec.json.encode(template).decode() if output == "json" else yaml.safe_dump(template), nl=False
            )
            return
        rows = [
            {
                "revision": revision(s.metadata.annotations),
                "set": s.metadata.name,
                "clusters": s.status.replicas or 0,
                "images": images_of(s.spec.template.spec if s.spec.template is not None else {}),
                "cause": s.metadata.annotations.get(CHANGE_CAUSE, ""),
            }
            for s in sorted(seen.owned, key=lambda s: revision(s.metadata.annotations))
        ]
        if output == "json":
            click.echo(msgspec.json.encode(rows).decode())
            return
        cells = [tuple(_cell(v) for v in row.values()) for row in rows]
        click.echo("\n".join(render_table(("REVISION", "SET", "CLUSTERS", "IMAGES", "CHANGE-CAUSE"), cells)))

    _run(place, work)


def _cell(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


def _revision(seen: Observed, number: int) -> RayClusterReplicaSet:
    found = find_revision(seen, number)
    if found is None:
        known = ", ".join(str(n) for n in sorted({revision(s.metadata.annotations) for s in seen.owned} - {0}))
        what = f"revision {number}" if number else "earlier revision"
        raise UsageError(f"fleet/{seen.fleet.metadata.name} has no {what}", f"there are {known or 'none'}")
    return found


def roll_back(place: Place, name: str, *, number: int) -> None:
    """Ask the controller to take a revision's template back.

    Raises:
        UsageError: there is no such revision, or the fleet is paused.
    """

    async def work(client: Client, where: str) -> None:
        seen = await observe_fleet(client, ObjectKey(where, name))
        _check_not_paused(seen.fleet)
        found = _revision(seen, number)
        wanted = revision(found.metadata.annotations)
        if is_same_template(found.spec.template, seen.fleet.spec.template):
            click.echo(f"fleet/{name} has the template of revision {wanted} already")
            return
        patch = {"metadata": {"annotations": {ROLLBACK_TO: str(wanted)}}}
        await client.patch(RayClusterFleet, seen.fleet.key, patch)
        click.echo(f"fleet/{name} goes back to revision {wanted}; follow it by: pybrix rollout status fleet/{name}")

    _run(place, work)


def _check_not_paused(fleet: RayClusterFleet) -> None:
    name = fleet.metadata.name
    if fleet.spec.paused:
        raise UsageError(f"fleet/{name} is paused", f"pybrix rollout resume fleet/{name}")


def set_paused(place: Place, name: str, *, is_paused: bool) -> None:
    """Pause or resume the rollout of a fleet."""

    async def work(client: Client, where: str) -> None:
        fleet = await fetch_fleet(client, ObjectKey(where, name))
        word = "paused" if is_paused else "resumed"
        if fleet.spec.paused is is_paused:
            click.echo(f"fleet/{name} is {word if is_paused else 'not paused'} already")
            return
        await client.patch(RayClusterFleet, fleet.key, {"spec": {"paused": is_paused}})
        click.echo(f"fleet/{name} {word}")

    _run(place, work)


def restart_fleet(place: Place, name: str) -> None:
    """Give the template an annotation, so that it is another one.

    Raises:
        UsageError: the fleet is paused, so that nothing would happen.
    """

    async def work(client: Client, where: str) -> None:
        fleet = await fetch_fleet(client, ObjectKey(where, name))
        _check_not_paused(fleet)
        annotations = {RESTARTED_AT: format_rfc3339(SystemClock().now())}
        patch = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
        await client.patch(RayClusterFleet, fleet.key, patch)
        click.echo(f"fleet/{name} is restarted; follow it by: pybrix rollout status fleet/{name}")

    _run(place, work)


# Plan


def images_of(spec: dict[str, Any]) -> list[str]:
    """Return the images of a RayCluster's containers, each once."""
    return list(dict.fromkeys(str(c.get("image", "")) for c in _containers(spec)))


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [spec.get("headGroupSpec") or {}, *(spec.get("workerGroupSpecs") or ())]
    return [c for group in groups for c in ((group.get("template") or {}).get("spec") or {}).get("containers") or ()]


def with_image(spec: dict[str, Any], image: str) -> dict[str, Any]:
    """Return a RayCluster's spec with another image: `NAME=IMAGE` in containers of that name, else where it fits.

    Raises:
        UsageError: no container fits.
    """
    changed = copy.deepcopy(spec)
    name, named, rest = image.partition("=")
    wanted = rest if named else image
    repository = wanted.rpartition("@")[0] or wanted
    repository = repository[: repository.rfind(":")] if ":" in repository.rpartition("/")[2] else repository
    found = 0
    for container in _containers(changed):
        present = str(container.get("image", ""))
        is_same = present == repository or present.startswith((f"{repository}:", f"{repository}@"))
        if container.get("name") == name if named else is_same:
            container["image"] = wanted
            found += 1
    if not wanted:
        raise UsageError(f"--image {image} names no image", "give IMAGE or CONTAINER=IMAGE")
    if not found:
        known = ", ".join(f"{c.get('name')} ({c.get('image')})" for c in _containers(spec))
        raise UsageError(f"--image {image} fits no container", f"give CONTAINER=IMAGE; there are {known}")
    return changed


def show_plan(
    place: Place,
    name: str,
    *,
    images: Sequence[str],
    replicas: int | None,
    output: str,
) -> None:
    """Print the steps that a rollout would take; nothing is changed."""

    async def work(client: Client, where: str) -> None:
        seen = await observe_fleet(client, ObjectKey(where, name))
        fleet = seen.fleet
        spec = fleet.spec.template.spec
        for image in images:
            spec = with_image(spec, image)
        template = msgspec.structs.replace(fleet.spec.template, spec=spec)
        changes: dict[str, Any] = {"template": template} | ({} if replicas is None else {"replicas": replicas})
        changed = msgspec.structs.replace(fleet, spec=msgspec.structs.replace(fleet.spec, **changes))
        steps = foresee(changed, seen.owned, SystemClock().now())
        if output == "json":
            click.echo(msgspec.json.encode(steps).decode())
            return
        if fleet.spec.paused:
            click.echo(f"fleet/{name} is paused: only scaling happens")
        if not steps:
            click.echo("nothing to do")
            return
        rows = [
            (str(n), "; ".join(step.why), str(step.clusters), str(step.available)) for n, step in enumerate(steps, 1)
        ]
        click.echo("\n".join(render_table(("STEP", "WHAT", "MOST CLUSTERS", "FEWEST AVAILABLE"), rows)))

    _run(place, work)


# Get


def show_fleets(
    place: Place,
    wanted: Sequence[str],
    *,
    is_everywhere: bool,
    output: str,
) -> None:
    """Print fleets.

    Raises:
        UsageError: there is none of a name, or the cluster has no such kind.
    """

    async def work(client: Client, where: str) -> None:
        try:
            listed = (await client.list(RayClusterFleet, None if is_everywhere else where)).items
        except NotFound as err:
            raise NO_KIND from err
        for name in wanted:
            if all(fleet.metadata.name != name for fleet in listed):
                raise UsageError(f"there is no RayClusterFleet {name!r}", "`pybrix get fleets -A` lists all")
        fleets = [f for f in sorted(listed, key=lambda f: f.key) if not wanted or f.metadata.name in wanted]
        click.echo(render_fleets(fleets, output, is_everywhere=is_everywhere), nl=output != "yaml")

    _run(place, work)


def render_fleets(fleets: Sequence[RayClusterFleet], output: str, *, is_everywhere: bool) -> str:
    """Return fleets as a table (text, wide), or as summaries (json, yaml)."""
    if output in ("json", "yaml"):
        found = [summary_of(fleet) for fleet in fleets]
        return msgspec.json.encode(found).decode() if output == "json" else yaml.safe_dump(found, sort_keys=False)
    if not fleets:
        return "there are no fleets"
    head = ["NAME", "AVAILABLE", "UPDATED", "REVISION", "AGE", "PROGRESS"]
    if output == "wide":
        head += ["STRATEGY", "IMAGES", "HEADS"]
    if is_everywhere:
        head.insert(0, "NAMESPACE")
    return "\n".join(render_table(tuple(head), [_row(f, output, is_everywhere) for f in fleets]))


def _row(fleet: RayClusterFleet, output: str, is_everywhere: bool) -> tuple[str, ...]:
    status, wanted = fleet.status, fleet.spec.replicas
    cells = [
        fleet.metadata.name,
        f"{status.available_replicas}/{wanted}",
        str(status.updated_replicas),
        str(revision(fleet.metadata.annotations) or "-"),
        _age(fleet),
        ("complete, paused" if fleet.spec.paused else "complete")
        if is_complete(fleet)
        else "stuck"
        if is_stuck(fleet)
        else describe_progress(fleet),
    ]
    if output == "wide":
        strategy = fleet.spec.strategy
        kind = (strategy.type if strategy is not None else "") or "RollingUpdate"
        heads = status.scaling_target_selector or f"{names.RAYCLUSTERFLEET_NAME}={fleet.metadata.name}"
        cells += [kind, ",".join(images_of(fleet.spec.template.spec)), heads]
    return tuple([fleet.metadata.namespace, *cells] if is_everywhere else cells)


def _age(fleet: RayClusterFleet) -> str:
    created = fleet.metadata.creation_timestamp
    if not created:
        return "-"
    seconds = int((SystemClock().now() - parse_rfc3339(created)).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(0, seconds)}s"
