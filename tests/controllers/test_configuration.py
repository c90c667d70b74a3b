"""`ControllersConfiguration`: defaults, flags over the file, and mistakes with their path."""

from __future__ import annotations

import pytest

from pybrix.api.config import ControllersConfiguration
from pybrix.api.configuration import ConfigurationError
from pybrix.controllers.configuration import parse_configuration


def test_nothing_means_all_defaults() -> None:
    assert parse_configuration("", "defaults") == ControllersConfiguration()


def test_flags_win_over_the_file_and_what_they_do_not_say_stays() -> None:
    text = """
    apiVersion: config.pybrix.ai/v1alpha1
    kind: ControllersConfiguration
    namespaces: [a]
    concurrency: {unimplemented: 2}
    leaderElection: {leaseDurationS: 30, name: mine}
    """
    flags = {"namespaces": None, "healthPort": 0, "leaderElection": {"isEnabled": False, "namespace": None}}
    config = parse_configuration(text, "file", flags)
    assert config.namespaces == ["a"]
    assert config.health_port == 0
    assert config.concurrency == {"unimplemented": 2}
    election = config.leader_election
    assert (election.is_enabled, election.lease_duration_s, election.name) == (False, 30, "mine")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("controllers: [modeladaptor]", r"\$.controllers: 'modeladaptor' is none \(there are \*, "),
        ("concurrency: {nobody: 1}", r"\$.concurrency.nobody: no such controller"),
        ("concurrency: {unimplemented: 0}", r"`\$.concurrency\[...\]`"),
        ("healthPort: 70000", r"`\$.healthPort`"),
        ("namespaces: ['']", r"\$.namespaces: an empty name"),
        ("namespace: [a]", r"\$.namespace: no such field \(did you mean namespaces\?\)"),
        ("leaderElection: {leaseDuration: 3}", r"\$.leaderElection.leaseDuration: no such field \(did you mean leaseD"),
        ("leaderElection: {renewDeadlineS: 20}", r"\$.leaderElection: .*\(2, 20, 15\)"),
        ("leaderElection: on", r"`\$.leaderElection`"),
        ("kind: GatewayConfiguration", r"\$.kind: config.pybrix.ai/v1alpha1 GatewayConfiguration is not"),
        ("[1]", "a list, where an object is expected"),
        ("{", "not YAML"),
    ],
)
def test_a_mistake_is_told_with_its_path(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        parse_configuration(text, "controllers.yaml")
    assert str(caught.value).startswith("controllers.yaml: ")
