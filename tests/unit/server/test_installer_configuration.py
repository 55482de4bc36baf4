import pytest

from lockgate.model.problem import ProblemError
from lockgate.protocol.preconfig import parse, serialize
from lockgate.server.config.defaults import default_configuration
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.connections import (
    ClientConnection,
    ComponentSet,
    ConnectionSet,
    LocationRule,
    MachineSettings,
)
from lockgate.server.config.tree.system import Gateway
from lockgate.server.installer_configuration import file_name, installer_configuration

DEFAULT = """\
schema version {
  version: "1"
}

machine settings {
  version: "1"
  guid: "00000000-0000-0000-0000-000000000002"
  connection-source: "preconfig"
  server-id: "00000000000000000000000000000001"
  connection-set-owner: ""
  connection-set-name: "Default"
  allow-save: "true"
  user-connection: "true"
  lock-down: "false"
  splashscreen-display: "true"
  dynamic-trust: "true"
  dynamic-connection: "true"
  eap-fragment-size: "1400"
  captive-portal-detection: "true"
  embedded-browser-saml: "true"
  enable-browser: "true"
  embedded-cef-browser-saml: "false"
  FIPSClient: "false"
  clear-smart-card-pin-cache: "false"
  block-traffic-on-vpn-disconnect: "false"
  wireless-suppression: "false"
}

ive "00000000-0000-0000-0000-000000000003" {
  friendly-name: "Default connection"
  version: "1"
  guid: "00000000-0000-0000-0000-000000000003"
  server-id: "00000000000000000000000000000001"
  connection-source: "preconfig"
  factory-default: "true"
  uri: "gw.example.org"
  connection-policy-override: "true"
  connection-lock-down: "false"
  use-for-secure-meetings: "false"
  use-for-connect: "true"
  connection-identity: "user"
  connection-policy: "manual"
  client-certificate-location-system: "false"
}
"""


@pytest.fixture
def tree() -> Configuration:
    guids = iter(f"{number:032x}" for number in range(1, 10))
    return default_configuration(Gateway(hostname="gw.example.org"), lambda: next(guids))


def test_a_new_gateways_file(tree: Configuration) -> None:
    """DEP-1 and DEP-10: nothing has to be created, and every default of DEP-3 is in it."""
    found = installer_configuration(tree, "Default")
    assert serialize(found) == DEFAULT
    assert parse(DEFAULT) == found


def test_another_server_is_named_by_the_connections_that_name_none(tree: Configuration) -> None:
    found = installer_configuration(tree, "Default", server="https://other.example.org:8443/staff/")
    assert found.connections[0].get("uri") == "https://other.example.org:8443/staff/"
    assert found.server_id == tree.cluster.server_id
    with pytest.raises(ProblemError, match="https"):
        installer_configuration(tree, "Default", server="http://other/")


def test_every_kind_of_connection(tree: Configuration) -> None:
    rules = (LocationRule(name="Office", kind="dns-server", addresses=("10.0.0.1", "10.0.0.2")),)
    connections = (
        ClientConnection(
            name="Three",
            guid="a" * 32,
            urls=("", "gw2.example.org", "https://gw3.example.org/x/"),
            url_mode="random",
            policy="location",
            identity="machine",
            location_rules=rules,
        ),
        ClientConnection(
            name="Wi-Fi", guid="b" * 32, kind="802.1x", adapter_type="wireless", scan_list=("a b",)
        ),
        ClientConnection(name="Zero", guid="c" * 32, kind="zero-trust", urls=("zta.example.org",)),
    )
    changed = tree.model_copy(
        update={
            "connection_sets": (
                ConnectionSet(
                    name="Staff",
                    guid="d" * 32,
                    version=7,
                    settings=MachineSettings(always_on=True),
                    connections=connections,
                ),
            ),
            "component_sets": (ComponentSet(name="Staff laptops", connection_set="Staff"),),
        }
    )
    found = installer_configuration(changed, "Staff laptops")
    three, wireless, zero = found.connections
    assert (found.version, found.machine.get("lock-down")) == (7, "true")
    assert three.get("uri-list") == "gw.example.org,gw2.example.org,https://gw3.example.org/x/"
    assert (three.get("uri-list-randomize"), three.get("connection-identity")) == ("true", "machine-only")
    assert three.get("location-rule-1-addresses") == "10.0.0.1,10.0.0.2"
    assert three.get("factory-default") == "false"
    assert (wireless.kind, wireless.get("scan-list"), wireless.get("uri")) == ("8021x", "a b", "")
    assert zero.get("connection-type") == "zero-trust"
    assert parse(serialize(found)) == found
    with pytest.raises(ProblemError, match="no component set"):
        installer_configuration(changed, "Default")


def test_file_names() -> None:
    assert file_name("Staff laptops") == "Staff laptops.pulsepreconfig"
    assert file_name('..\\a:"b"') == "_a_b_.pulsepreconfig"
    assert file_name("...") == "connections.pulsepreconfig"
