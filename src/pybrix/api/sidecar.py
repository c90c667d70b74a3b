"""The sidecar that AIBrix's annotation `model.aibrix.ai/sidecar-injection` asks for. Pure.

One definition of the container, and of where it goes, for all who put it there: the admission policies
(`api.injectionpolicies`), `pybrix inject`, and the controller that says when nobody did.

- A Deployment asks by the value "true", a StormService by the annotation itself unless its value is "false"; of a
  StormService every role gets one.
- The container comes first. A template that has a container of its name, in whatever place, is left alone.
- Every container gets the volume that adapters are downloaded to, where it does not mount something at that path
  already; a volume of that name that is there is used as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pybrix
from pybrix.api.names import DEFAULT_MODEL_PORT, MODEL_ENGINE, MODEL_PORT

INJECTION = "model.aibrix.ai/sidecar-injection"
"""Annotation: a sidecar is wanted."""
RUNTIME_IMAGE = "model.aibrix.ai/sidecar-runtime-image"
"""Annotation: the sidecar's image."""
CONTAINER = "aibrix-runtime"
"""Name of the sidecar's container, which AIBrix's controller looks for."""
PORT = 8080
VOLUME = "adapter-storage"
ADAPTERS_PATH = "/tmp/aibrix/adapters"
DEFAULT_IMAGE = f"ghcr.io/pybrix/pybrix:{pybrix.__version__}"
COMMAND = ("pybrix", "sidecar", "run", "--port", str(PORT))
AIBRIX_COMMAND = ("aibrix_runtime", "--port", str(PORT))
AIBRIX_IMAGE = r"(^|/)aibrix/runtime([:@]|$)"
"""Images in which pybrix is not installed, but AIBrix's own program; RE2."""
ENGINE_WORDS = (
    ("vllm", "vllm"),
    ("sglang", "sglang"),
    ("tgi", "tgi"),
    ("triton", "triton"),
    ("llamacpp", "llamacpp"),
    ("llama.cpp", "llamacpp"),
)
"""Word in the name of an image -> engine; the first that one of the images has counts."""
UNKNOWN_ENGINE = "unknown"
KINDS = {("apps", "Deployment"): "true", ("orchestration.aibrix.ai", "StormService"): ""}
"""(group, kind) -> the value that asks; empty for every value but "false"."""

Step = str | int
Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Insertion:
    """A field or an item that is added to an object."""

    parent: tuple[Step, ...]
    """Steps to the object or list that gets it."""
    key: Step | None
    """Name of the field; index that an item gets; None for the end of a list."""
    value: Any


def volume() -> dict[str, Any]:
    return {"name": VOLUME, "emptyDir": {}}


def mount() -> dict[str, Any]:
    return {"name": VOLUME, "mountPath": ADAPTERS_PATH}


def container(image: str, command: Any, engine: str, engine_url: str) -> dict[str, Any]:
    """Return the sidecar.

    Args:
        image: its image.
        command: its command line; `command_for(image)`.
        engine: what stands beside it.
        engine_url: where that answers; `endpoint(port)`.
    """
    return {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "ports": [{"name": "metrics", "containerPort": PORT, "protocol": "TCP"}],
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
            {"name": "INFERENCE_ENGINE", "value": engine},
            # By the pod's address: an engine may listen there alone.
            {"name": "INFERENCE_ENGINE_ENDPOINT", "value": engine_url},
        ],
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": PORT},
            "initialDelaySeconds": 3,
            "periodSeconds": 2,
        },
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": PORT},
            "initialDelaySeconds": 5,
            "periodSeconds": 10,
        },
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"cpu": "500m", "memory": "512Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [mount()],
    }


def command_for(image: str) -> list[str]:
    return list(AIBRIX_COMMAND if re.search(AIBRIX_IMAGE, image) else COMMAND)


def endpoint(port: str) -> str:
    """Return where the engine answers, as an environment variable of the pod says it."""
    return f"http://$(POD_IP):{port}"


def asks_for_sidecar(obj: Data) -> bool:
    """Say whether the annotation of an object asks for sidecars."""
    group = str(obj.get("apiVersion", "")).rpartition("/")[0]
    wanted = KINDS.get((group, str(obj.get("kind", ""))))
    value = _annotations(obj).get(INJECTION)
    if wanted is None or not isinstance(value, str):
        return False
    return value == wanted if wanted else value != "false"


def templates(obj: Data) -> Iterator[tuple[tuple[Step, ...], Data]]:
    """Yield (steps, template) of every pod template of an object that has containers."""
    spec = _part(obj, "spec")
    found: list[tuple[tuple[Step, ...], Data]]
    if obj.get("kind") == "StormService":
        roles = _part(spec, "template", "spec").get("roles")
        found = [
            (("spec", "template", "spec", "roles", index, "template"), _part(role, "template"))
            for index, role in enumerate(roles if isinstance(roles, list) else ())
        ]
    else:
        found = [(("spec", "template"), _part(spec, "template"))]
    for steps, template in found:
        if _items(_part(template, "spec"), "containers"):
            yield steps, template


def has_sidecar(template: Data) -> bool:
    spec = _part(template, "spec")
    everything = (*_items(spec, "containers"), *_items(spec, "initContainers"))
    return any(one.get("name") == CONTAINER for one in everything)


def lacks_sidecar(obj: Data) -> bool:
    """Say whether an object asks for sidecars, and one of its templates has none."""
    return asks_for_sidecar(obj) and any(not has_sidecar(template) for _, template in templates(obj))


def insertions(obj: Data, default_image: str = DEFAULT_IMAGE) -> list[Insertion]:
    """Return what an object that asks for sidecars lacks, in an order in which it can be added."""
    if not asks_for_sidecar(obj):
        return []
    found: list[Insertion] = []
    for steps, template in templates(obj):
        if not has_sidecar(template):
            found += _insertions(obj, steps, template, default_image)
    return found


def _insertions(obj: Data, steps: tuple[Step, ...], template: Data, default_image: str) -> Iterator[Insertion]:
    spec = _part(template, "spec")
    at = (*steps, "spec")
    for index, one in enumerate(_items(spec, "containers")):
        mounts = _items(one, "volumeMounts")
        if any(known.get("mountPath") == ADAPTERS_PATH for known in mounts):
            continue
        if isinstance(one.get("volumeMounts"), list):
            yield Insertion((*at, "containers", index, "volumeMounts"), None, mount())
        else:
            yield Insertion((*at, "containers", index), "volumeMounts", [mount()])
    volumes = spec.get("volumes")
    if not isinstance(volumes, list):
        yield Insertion(at, "volumes", [volume()])
    elif not any(known.get("name") == VOLUME for known in _items(spec, "volumes")):
        yield Insertion((*at, "volumes"), None, volume())
    image = _annotations(obj).get(RUNTIME_IMAGE) or default_image
    labels = _part(template, "metadata", "labels")
    port = labels.get(MODEL_PORT) or str(DEFAULT_MODEL_PORT)
    made = container(image, command_for(image), _engine(obj, labels, spec), endpoint(port))
    yield Insertion((*at, "containers"), 0, made)


def _engine(obj: Data, labels: Data, spec: Data) -> str:
    said = _annotations(obj).get(MODEL_ENGINE) or labels.get(MODEL_ENGINE)
    if said:
        return str(said)
    images = [str(one.get("image", "")) for one in _items(spec, "containers")]
    return next((engine for word, engine in ENGINE_WORDS if any(word in i for i in images)), UNKNOWN_ENGINE)


def injected(obj: Data, default_image: str = DEFAULT_IMAGE) -> dict[str, Any]:
    """Return an object with the sidecars that it asks for and does not have; the same object when there are none."""
    built = dict(obj)
    for one in insertions(obj, default_image):
        built = _with(built, one.parent, one)
    return built


def _with(value: Any, steps: tuple[Step, ...], one: Insertion) -> Any:
    """Return a copy of a value with something inserted below it."""
    if steps:
        copied: Any = dict(value) if isinstance(value, Mapping) else list(value)
        copied[steps[0]] = _with(copied[steps[0]], steps[1:], one)
        return copied
    if isinstance(one.key, str):
        return {**value, one.key: one.value}
    at = len(value) if one.key is None else one.key
    return [*value[:at], one.value, *value[at:]]


def _annotations(obj: Data) -> Data:
    return _part(obj, "metadata", "annotations")


def _part(value: Any, *names: str) -> Data:
    """Return an object within an object; an empty one where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _items(value: Data, name: str) -> list[Data]:
    """Return the objects of a list."""
    found = value.get(name)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
