"""Environment, command and arguments of a container, as Kubernetes builds them. Pure.

`$(VAR)` follows https://github.com/kubernetes/design-proposals-archive/blob/main/node/expansion.md.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, Decimal

from pybrix.api.core import ConfigMap, Container, EnvVarSource, FieldRef, Pod, ResourceFieldRef, Secret
from pybrix.base.quantity import parse_quantity

_INHERITED = re.compile(
    r"(PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_[A-Z]+|TZ|TMPDIR|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE"
    r"|XDG_(CACHE|DATA|CONFIG)_HOME|[a-z]+_proxy|[A-Z]+_PROXY)"
)
_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|\((?P<name>[^()]*)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class ConfigError(ValueError):
    """A container's configuration refers to something that is not there (CreateContainerConfigError)."""


def inherited_environment(environ: Mapping[str, str], path_first: str, path_last: Iterable[str] = ()) -> dict[str, str]:
    """Return what containers get of the agent's environment: where programs and homes are, never its secrets.

    Args:
        environ: the agent's environment.
        path_first: directory put in front of PATH, so that `pybrix` is found.
        path_last: directories put behind it.
    """
    kept = {name: value for name, value in environ.items() if _INHERITED.fullmatch(name)}
    kept["PATH"] = ":".join((path_first, kept.get("PATH", "/usr/local/bin:/usr/bin:/bin"), *path_last))
    return kept


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(VAR)`; an unknown one stays as it is, `$$` is a dollar sign."""

    def replaced(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        return variables.get(match["name"], match[0])

    return _REFERENCE.sub(replaced, text)


def render_environment(
    pod: Pod,
    container: Container,
    *,
    pod_ip: str,
    host_ip: str,
    configmaps: Mapping[str, ConfigMap],
    secrets: Mapping[str, Secret],
    capacity: Mapping[str, str],
) -> dict[str, str]:
    """Return the variables a container asks for: `envFrom` in order, then `env`, later ones winning.

    Args:
        configmaps: those of the pod's namespace by name.
        secrets: likewise.
        capacity: what the node has of each resource, the value of `limits.cpu` without a limit.

    Raises:
        ConfigError: a reference that is not optional leads nowhere.
    """
    found: dict[str, str] = {}
    for source in container.env_from:
        if source.config_map_ref is not None:
            configmap = configmaps.get(source.config_map_ref.name)
            if configmap is None and not source.config_map_ref.optional:
                raise ConfigError(f'configmap "{source.config_map_ref.name}" not found')
            found |= _prefixed(source.prefix, configmap.data if configmap is not None else {})
        if source.secret_ref is not None:
            secret = secrets.get(source.secret_ref.name)
            if secret is None and not source.secret_ref.optional:
                raise ConfigError(f'secret "{source.secret_ref.name}" not found')
            found |= _prefixed(source.prefix, _texts(secret.data) if secret is not None else {})
    for variable in container.env:
        if variable.value_from is None:
            found[variable.name] = expand(variable.value, found)
            continue
        value = _from_source(
            variable.value_from, pod, container, pod_ip, host_ip, configmaps=configmaps, secrets=secrets, node=capacity
        )
        if value is not None:
            found[variable.name] = value
    return found


def _prefixed(prefix: str, data: Mapping[str, str]) -> dict[str, str]:
    # The kernel takes no name with "=" and no NUL; Kubernetes leaves such keys out too.
    return {f"{prefix}{k}": v for k, v in data.items() if k and "=" not in k and "\0" not in v}


def _texts(data: Mapping[str, str]) -> dict[str, str]:
    return {key: decode_secret(value).decode(errors="surrogateescape") for key, value in data.items()}


def decode_secret(value: str) -> bytes:
    """Return the bytes of one value of a Secret's `data`.

    Raises:
        ConfigError: it is not base64.
    """
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ConfigError(f"a value of the secret is not base64: {error}") from error


def _from_source(
    source: EnvVarSource,
    pod: Pod,
    container: Container,
    pod_ip: str,
    host_ip: str,
    *,
    configmaps: Mapping[str, ConfigMap],
    secrets: Mapping[str, Secret],
    node: Mapping[str, str],
) -> str | None:
    if source.field_ref is not None:
        return field_value(source.field_ref, pod, pod_ip=pod_ip, host_ip=host_ip)
    if source.resource_field_ref is not None:
        return resource_value(source.resource_field_ref, pod, container, node)
    if source.config_map_key_ref is not None:
        reference = source.config_map_key_ref
        configmap = configmaps.get(reference.name)
        if configmap is not None and reference.key in configmap.data:
            return configmap.data[reference.key]
        if reference.optional:
            return None
        if configmap is None:
            raise ConfigError(f'configmap "{reference.name}" not found')
        raise ConfigError(f"couldn't find key {reference.key} in ConfigMap {pod.metadata.namespace}/{reference.name}")
    if source.secret_key_ref is not None:
        reference = source.secret_key_ref
        secret = secrets.get(reference.name)
        if secret is not None and reference.key in secret.data:
            return decode_secret(secret.data[reference.key]).decode(errors="surrogateescape")
        if reference.optional:
            return None
        if secret is None:
            raise ConfigError(f'secret "{reference.name}" not found')
        raise ConfigError(f"couldn't find key {reference.key} in Secret {pod.metadata.namespace}/{reference.name}")
    raise ConfigError("valueFrom names no source that this node knows")


def field_value(reference: FieldRef, pod: Pod, *, pod_ip: str, host_ip: str) -> str:
    """Return a field of the pod for the downward API.

    Raises:
        ConfigError: the field is none of those that the downward API has.
    """
    path, meta = reference.field_path, pod.metadata
    values = {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "spec.nodeName": pod.spec.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name or "default",
        "status.podIP": pod_ip,
        "status.podIPs": pod_ip,
        "status.hostIP": host_ip,
        "status.hostIPs": host_ip,
    }
    if path in values:
        return values[path]
    if match := _SUBSCRIPT.fullmatch(path):
        return (meta.labels if match[1] == "labels" else meta.annotations).get(match[2], "")
    raise ConfigError(f"unsupported fieldPath: {path}")


def resource_value(reference: ResourceFieldRef, pod: Pod, container: Container, capacity: Mapping[str, str]) -> str:
    """Return a container's resource in units of the divisor, rounded up.

    Raises:
        ConfigError: no such container or resource.
    """
    kind, _, resource = reference.resource.partition(".")
    name = reference.container_name or container.name
    target = next((c for c in (*pod.spec.containers, *pod.spec.init_containers) if c.name == name), None)
    if target is None:
        raise ConfigError(f"container {name} not found")
    if kind not in ("limits", "requests") or not resource:
        raise ConfigError(f"unsupported container resource: {reference.resource}")
    chosen = target.resources.limits if kind == "limits" else target.resources.requests
    fallback = capacity.get(resource, "0") if kind == "limits" else "0"
    divisor = parse_quantity(reference.divisor) or Decimal(1)
    return str((parse_quantity(chosen.get(resource, fallback)) / divisor).to_integral_value(ROUND_CEILING))


def expand_all(texts: Iterable[str], variables: Mapping[str, str]) -> tuple[str, ...]:
    """Expand each text, as for `command` and `args`."""
    return tuple(expand(text, variables) for text in texts)
