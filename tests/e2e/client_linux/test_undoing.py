"""Plans replaced, repaired, taken back; crashes undone. Every test ends with the host as it was (`Place.close`)."""

from __future__ import annotations

import pytest

from tests.e2e.client_linux.place import Place
from tests.lab.waiting import wait_for

SPLIT = {"include": ["10.77.0.0/16", "fd77::/64"], "tunnel_routes_first": True}


def test_applying_twice_and_taking_back(place: Place) -> None:
    place.apply(**SPLIT)
    once = place.snapshot()
    place.apply(**SPLIT)
    assert place.snapshot() == once
    assert place.ask("verify") == []
    assert place.ask("remove") == ["4 routing rules", "8 routes", "the firewall table"]
    assert place.ask("remove") == []
    place.ask("close-tun")
    assert place.reset() == []


def test_one_plan_replaces_another_whole(place: Place) -> None:
    place.apply()
    direct = place.snapshot()
    place.ask("remove")
    place.apply(**SPLIT, exclude=["10.77.0.0/24"], address4="10.88.0.11")
    place.apply(include=["10.77.0.0/24"], exclude=["10.77.0.0/16", "fd77::/64"], address6=None)
    assert place.ask("verify") == []
    place.apply()
    assert place.ask("verify") == []
    assert place.snapshot().replace("valid_lft", "") == direct.replace("valid_lft", "")


def test_roaming_opens_no_hole(place: Place) -> None:
    """A plan is replaced again and again while packets are sent without pause; none leaves."""
    place.apply(include=["10.77.0.0/16"])
    program = (
        "import socket, time\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "print('sending', flush=True)\n"
        "while True:\n"
        "    try: s.sendto(b'leak', ('10.77.0.10', 9))\n"
        "    except OSError: pass\n"
    )
    with place.leaks() as leaks:
        sender = place.host.start(["python3", "-c", program], "sender")
        sender.wait_log("sending")
        for _ in range(10):
            place.apply(include=["10.77.0.0/24"], exclude=["10.78.0.0/16"])
            place.apply()
            place.apply(include=["10.77.0.0/16"])
        sender.stop()
    assert not leaks.to("10.77.0.10")


def test_killed_and_reset(place: Place) -> None:
    place.apply()
    place.kill()
    # Dead, but closed: nothing of what belonged in the tunnel leaves.
    with place.leaks() as leaks:
        place.send("10.77.0.10", "fd77::10", "192.0.2.2")
        place.send("10.77.0.10", "fd77::10", "192.0.2.2", interface="eth0")
    assert not leaks.to("10.77.0.10", "fd77::10", "192.0.2.2")
    done = place.reset()
    assert done[:1] == ["4 routing rules"]
    assert done[-1] == "the firewall table"
    assert place.snapshot() == place.before
    assert place.reset() == []
    assert place.host.ping("192.0.2.2")


def test_killed_and_reset_gives_the_names_back(place: Place) -> None:
    file = place.host.directory / "resolv.conf"
    file.write_text("nameserver 192.0.2.53\n")
    try:
        place.apply(dns=["10.77.0.10"])
        assert place.ask("dns") == "file"
        assert "10.77.0.10" in file.read_text()
        place.kill()
        place.reset()
        assert file.read_text() == "nameserver 192.0.2.53\n"
        assert not list(place.state.iterdir())
    finally:
        file.write_text("")


@pytest.mark.parametrize("damage", ["", "{", '{"version": 1, "entries": 7}', "missing"])
def test_killed_and_reset_with_a_damaged_journal(place: Place, damage: str) -> None:
    place.apply(**SPLIT)
    place.kill()
    journal = place.state / "journal.json"
    journal.unlink()
    if damage != "missing":
        journal.write_text(damage)
    assert place.reset()
    assert place.snapshot() == place.before
    assert place.reset() == []


def test_a_device_that_lived_on_is_removed_by_reset_and_no_other(place: Place) -> None:
    place.host.ip("tuntap add mode tun name lockgate9")  # a gateway's on the same machine, say
    try:
        place.apply(**SPLIT)
        assert f"the network device {place.tun}" in place.reset()
        assert [link["ifname"] for link in place.host.ip_json("link") if "lockgate" in link["ifname"]] == [
            "lockgate9"
        ]
    finally:
        place.host.ip("link del lockgate9")


def test_what_others_do_to_it_is_found_and_mended(place: Place) -> None:
    place.apply(**SPLIT)
    for command, code in [
        ("ip rule del pref 19001", "rule-missing"),
        ("ip -6 rule del pref 19000", "rule-missing"),
        ("ip route del table 19527 10.77.0.0/16 metric 10", "route-missing"),
        ("ip -6 route flush table 19527", "route-missing"),
        ("ip route add 10.77.3.0/24 via 198.51.100.1 table 19527", "route-foreign"),
        ("ip -6 route add fd77::/80 via 2001:db8:1::1 table 19527", "route-foreign"),
        (f"ip link set {place.tun} down", "device-down"),
        (f"ip address flush dev {place.tun}", "address-missing"),
        ("nft flush ruleset", "firewall-changed"),
        ("nft insert rule inet lockgate leave accept", "firewall-changed"),
        ("nft flush chain inet lockgate arrive", "firewall-changed"),
    ]:
        place.host.run(command.split())
        assert code in place.ask("verify"), command
        place.apply(**SPLIT)
        assert place.ask("verify") == [], command
    # In the local table, which comes before all others; not ours to mend.
    place.host.ip("route add 10.77.0.10/32 dev eth0 table local")
    assert place.ask("verify") == ["local-foreign"]
    place.host.ip("route del 10.77.0.10/32 dev eth0 table local")


@pytest.mark.parametrize("why", ["full", "read-only"])
def test_a_state_directory_that_cannot_be_written_changes_nothing(place: Place, why: str) -> None:
    options = "size=4k" if why == "full" else "ro"
    place.host.run(["mount", "-t", "tmpfs", "-o", f"{options},mode=700", "none", str(place.state)])
    try:
        if why == "full":
            place.host.run(["dd", "if=/dev/zero", f"of={place.state}/filler"], check=False)
        # A fresh agent: the directory is opened at the start.
        place.agent.stop()
        place.agent = place.start_agent()
        wanted = {"full": "disk-full", "read-only": "state-not-writable"}[why]
        assert place.ask("apply", SPLIT) == {"problem": wanted}
        place.ask("close-tun")
        wait_for(lambda: place.snapshot() == place.before, "nothing was changed")
    finally:
        place.agent.stop()
        place.host.run(["umount", str(place.state)])


def test_the_monitor_tells_what_changed(place: Place) -> None:
    for command, undo, kind in [
        ("ip address add 192.168.9.9/24 dev eth0", "ip address del 192.168.9.9/24 dev eth0", "address"),
        ("ip route add 10.9.0.0/16 dev eth0", "ip route del 10.9.0.0/16 dev eth0", "route"),
        ("ip -6 rule add lookup main pref 50", "ip -6 rule del pref 50", "rule"),
        ("ip link set wlan0 up", "ip link set wlan0 down", "link"),
        ("nft add table inet other", "nft delete table inet other", "firewall"),
    ]:
        seen = len(place.agent.log())
        place.begin("watch")
        place.agent.wait_log("watching", after=seen)
        place.host.run(command.split())
        assert kind in place.answer()
        place.host.run(undo.split())
