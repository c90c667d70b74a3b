"""The functions that Kubernetes adds to CEL. Pure.

Values that CEL does not know, quantities and the like, are maps with one key that tells them apart. The functions for
strings come with the library, which lets nobody add overloads to them: `indexOf` of lists is not there.
https://kubernetes.io/docs/reference/using-api/cel/#cel-options-language-features-and-libraries
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import SplitResult, urlsplit

from cel_expr_python import cel

from pybrix.base.quantity import parse_quantity

_INT64 = range(-(2**63), 2**63)
_T = cel.Type
_OPAQUE = _T.Map(_T.STRING, _T.STRING)
_STRINGS = _T.List(_T.STRING)
Opaque = dict[str, str]


# Quantities.


def _quantity(text: str) -> Opaque:
    return _print_quantity(parse_quantity(text))


def _print_quantity(value: Decimal) -> Opaque:
    return {"quantity": format(value.normalize(), "f")}


def _number(quantity: Opaque) -> Decimal:
    return Decimal(_part(quantity, "quantity"))


def _part(value: Opaque, kind: str) -> str:
    if kind not in value:
        raise ValueError(f"no such overload: not a {kind}")
    return value[kind]


def _is(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return check


def _as_integer(quantity: Opaque) -> int:
    value = _number(quantity)
    if not _is_integer(quantity):
        raise ValueError(f"cannot convert {value} to an integer")
    return int(value)


def _is_integer(quantity: Opaque) -> bool:
    value = _number(quantity)
    return value == value.to_integral_value() and int(value) in _INT64


def _compare(left: Opaque, right: Opaque) -> int:
    a, b = _number(left), _number(right)
    return (a > b) - (a < b)


# Lists.


def _extreme(choose: Callable[[Any], Any], name: str) -> Callable[[Sequence[Any]], Any]:
    def found(items: Sequence[Any]) -> Any:
        if not items:
            raise ValueError(f"{name} called on empty list")
        return choose(items)

    return found


def _is_sorted(items: Sequence[Any]) -> bool:
    return all(a <= b for a, b in itertools.pairwise(items))


def _contains(items: Sequence[Any], wanted: Sequence[Any]) -> bool:
    return all(w in items for w in wanted)


# URLs.


def _parse_url(text: str) -> SplitResult:
    parsed = urlsplit(text)
    _ = parsed.port  # A port that is no number is found only when it is read.
    if not (parsed.scheme or text.startswith("/")) or any(c.isspace() or ord(c) < 32 for c in text):
        raise ValueError(f"URL parse error during conversion from string: {text[:200]!r}")
    return parsed


def _url(text: str) -> Opaque:
    _parse_url(text)
    return {"url": text}


def _of_url(read: Callable[[SplitResult], Any]) -> Callable[[Opaque], Any]:
    return lambda value: read(_parse_url(_part(value, "url")))


def _host(url: SplitResult) -> str:
    return url.netloc.rpartition("@")[2]


def _hostname(url: SplitResult) -> str:
    host = _host(url)
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _query(url: SplitResult) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pair in filter(None, url.query.split("&")):
        name, _, value = pair.partition("=")
        found.setdefault(name, []).append(value)
    return found


# Addresses.

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _parse_ip(text: str) -> Address:
    address = ipaddress.ip_address(text)
    if "%" in text or getattr(address, "ipv4_mapped", None) is not None:
        raise ValueError("an address with a zone or mapped into IPv6 is not allowed")
    return address


def _ip(text: str) -> Opaque:
    return {"ip": str(_parse_ip(text))}


def _of_ip(read: Callable[[Address], Any]) -> Callable[[Opaque], Any]:
    return lambda value: read(_parse_ip(_part(value, "ip")))


def _parse_cidr(text: str) -> Any:
    if "/" not in text or not text.rpartition("/")[2].isdigit():
        raise ValueError(f"{text[:100]!r} is no address range")
    return ipaddress.ip_interface(text)


def _cidr(text: str) -> Opaque:
    return {"cidr": str(_parse_cidr(text))}


def _contains_ip(range_: Opaque, address: Any) -> bool:
    asked = _parse_ip(address if isinstance(address, str) else _part(address, "ip"))
    network = _parse_cidr(_part(range_, "cidr")).network
    return asked.version == network.version and asked in network


def _contains_cidr(range_: Opaque, other: Any) -> bool:
    outer = _parse_cidr(_part(range_, "cidr")).network
    inner = _parse_cidr(other if isinstance(other, str) else _part(other, "cidr")).network
    return bool(outer.version == inner.version and inner.subnet_of(outer))


def _of_cidr(read: Callable[[Any], Any]) -> Callable[[Opaque], Any]:
    return lambda value: read(_parse_cidr(_part(value, "cidr")))


def declarations() -> list[Any]:
    """Return the functions, to be given to an environment."""
    from_text, opaque, items = [_T.STRING], [_OPAQUE], [_T.LIST]
    two = [_OPAQUE, _OPAQUE]
    table: list[tuple[str, bool, Any, list[Any], Callable[..., Any]]] = [
        ("quantity", False, _OPAQUE, from_text, _quantity),
        ("isQuantity", False, _T.BOOL, from_text, _is(parse_quantity)),
        ("isInteger", True, _T.BOOL, opaque, _is_integer),
        ("asInteger", True, _T.INT, opaque, _as_integer),
        ("asApproximateFloat", True, _T.DOUBLE, opaque, lambda q: float(_number(q))),
        ("sign", True, _T.INT, opaque, lambda q: _compare(q, {"quantity": "0"})),
        ("compareTo", True, _T.INT, two, _compare),
        ("isGreaterThan", True, _T.BOOL, two, lambda a, b: _compare(a, b) > 0),
        ("isLessThan", True, _T.BOOL, two, lambda a, b: _compare(a, b) < 0),
        ("add", True, _OPAQUE, two, lambda a, b: _print_quantity(_number(a) + _number(b))),
        ("add", True, _OPAQUE, [_OPAQUE, _T.INT], lambda a, b: _print_quantity(_number(a) + b)),
        ("sub", True, _OPAQUE, two, lambda a, b: _print_quantity(_number(a) - _number(b))),
        ("sub", True, _OPAQUE, [_OPAQUE, _T.INT], lambda a, b: _print_quantity(_number(a) - b)),
        ("isSorted", True, _T.BOOL, items, _is_sorted),
        ("sum", True, _T.DYN, items, sum),
        ("min", True, _T.DYN, items, _extreme(min, "min")),
        ("max", True, _T.DYN, items, _extreme(max, "max")),
        ("sets.contains", False, _T.BOOL, [_T.LIST, _T.LIST], _contains),
        ("sets.equivalent", False, _T.BOOL, [_T.LIST, _T.LIST], lambda a, b: _contains(a, b) and _contains(b, a)),
        ("sets.intersects", False, _T.BOOL, [_T.LIST, _T.LIST], lambda a, b: any(x in b for x in a)),
        ("jsonpatch.escapeKey", False, _T.STRING, from_text, lambda key: key.replace("~", "~0").replace("/", "~1")),
        ("url", False, _OPAQUE, from_text, _url),
        ("isURL", False, _T.BOOL, from_text, _is(_parse_url)),
        ("getScheme", True, _T.STRING, opaque, _of_url(lambda u: u.scheme)),
        ("getHost", True, _T.STRING, opaque, _of_url(_host)),
        ("getHostname", True, _T.STRING, opaque, _of_url(_hostname)),
        ("getPort", True, _T.STRING, opaque, _of_url(lambda u: "" if u.port is None else str(u.port))),
        ("getEscapedPath", True, _T.STRING, opaque, _of_url(lambda u: u.path)),
        ("getQuery", True, _T.Map(_T.STRING, _STRINGS), opaque, _of_url(_query)),
        ("ip", False, _OPAQUE, from_text, _ip),
        ("isIP", False, _T.BOOL, from_text, _is(_parse_ip)),
        ("ip.isCanonical", False, _T.BOOL, from_text, lambda text: str(_parse_ip(text)) == text),
        ("family", True, _T.INT, opaque, _of_ip(lambda a: a.version)),
        ("isUnspecified", True, _T.BOOL, opaque, _of_ip(lambda a: a.is_unspecified)),
        ("isLoopback", True, _T.BOOL, opaque, _of_ip(lambda a: a.is_loopback)),
        ("isLinkLocalMulticast", True, _T.BOOL, opaque, _of_ip(lambda a: a.is_multicast and a.is_link_local)),
        ("isLinkLocalUnicast", True, _T.BOOL, opaque, _of_ip(lambda a: a.is_link_local and not a.is_multicast)),
        ("isGlobalUnicast", True, _T.BOOL, opaque, _of_ip(_is_global_unicast)),
        ("cidr", False, _OPAQUE, from_text, _cidr),
        ("isCIDR", False, _T.BOOL, from_text, _is(_parse_cidr)),
        ("containsIP", True, _T.BOOL, [_OPAQUE, _T.STRING], _contains_ip),
        ("containsIP", True, _T.BOOL, two, _contains_ip),
        ("containsCIDR", True, _T.BOOL, [_OPAQUE, _T.STRING], _contains_cidr),
        ("containsCIDR", True, _T.BOOL, two, _contains_cidr),
        ("ip", True, _OPAQUE, opaque, _of_cidr(lambda c: {"ip": str(c.ip)})),
        ("masked", True, _OPAQUE, opaque, _of_cidr(lambda c: {"cidr": str(c.network)})),
        ("prefixLength", True, _T.INT, opaque, _of_cidr(lambda c: c.network.prefixlen)),
    ]
    table += _regex_functions()
    overloads: dict[str, list[Any]] = {}
    for number, (name, is_member, result, parameters, call) in enumerate(table):
        made = cel.Overload(
            f"kubernetes_{number}", return_type=result, parameters=parameters, is_member=is_member, impl=call
        )
        overloads.setdefault(name, []).append(made)
    return [cel.FunctionDecl(name, found) for name, found in overloads.items()]


def _is_global_unicast(address: Address) -> bool:
    broadcast = str(address) == "255.255.255.255"
    others = (address.is_unspecified, address.is_loopback, address.is_multicast, address.is_link_local)
    return not broadcast and not any(others)


def _regex_functions() -> list[tuple[str, bool, Any, list[Any], Callable[..., Any]]]:
    def find(text: str, pattern: str) -> str:
        found = _compiled(pattern).search(text)
        return found.group(0) if found else ""

    def find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
        found = [m.group(0) for m in _compiled(pattern).finditer(text)]
        return found if limit < 0 else found[:limit]

    return [
        ("find", True, _T.STRING, [_T.STRING, _T.STRING], find),
        ("findAll", True, _STRINGS, [_T.STRING, _T.STRING], find_all),
        ("findAll", True, _STRINGS, [_T.STRING, _T.STRING, _T.INT], find_all),
    ]


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as err:
        raise ValueError(f"error parsing regexp: {err}") from err
