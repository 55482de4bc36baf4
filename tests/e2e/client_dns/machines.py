"""Four client machines that differ in who manages their name resolution, and the network around them.

    outside (198.51.100.1, name server, sniffer) --- eth0  client  lockgate0 --- inside (10.77.0.10, name server)

The programs are the real ones, unpacked by scripts/unpacked-packages and laid over the client's own mount tree.
The name servers answer the same public name differently, so an address tells who was asked.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.lab.host import REPOSITORY, Host
from tests.lab.program import Program
from tests.lab.waiting import LabError, wait_for

UNPACKED = REPOSITORY / ".setup/unpacked"
OUTSIDE4, INSIDE4, INSIDE6 = "198.51.100.1", "10.77.0.10", "fd77::10"
INTRANET, PUBLIC_OUTSIDE, PUBLIC_INSIDE = "10.77.0.80", "198.51.100.80", "10.77.0.99"
SENTINEL = b"all packets before this one were seen"


class Network:
    """The three hosts, with both name servers running and the sniffer outside."""

    def __init__(self, directory: Path) -> None:
        self.client, self.outside, self.inside = (
            Host(name, directory / name) for name in ("client", "outside", "inside")
        )
        self.hosts = (self.client, self.outside, self.inside)
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        for interface, other, here, there in (
            ("eth0", self.outside, ["198.51.100.2/24"], ["198.51.100.1/24"]),
            ("lockgate0", self.inside, ["10.77.0.2/24", "fd77::2/64"], ["10.77.0.10/24", "fd77::10/64"]),
        ):
            self.client.ip(f"link add {interface} type veth peer name eth0 netns {other.namespace_pid}")
            for host, name, addresses in ((self.client, interface, here), (other, "eth0", there)):
                host.ip(
                    "".join(f"address add {a} dev {name}{' nodad' * (':' in a)}\n" for a in addresses)
                    + f"link set {name} up"
                )
        self.client.ip(f"route add default via {OUTSIDE4}")
        self.outside_dns = _name_server(
            self.outside, [OUTSIDE4], [f"--address=/public.test/{PUBLIC_OUTSIDE}", "--local=/lan/"]
        )
        self.inside_dns = _name_server(
            self.inside,
            [INSIDE4, INSIDE6],
            [
                f"--address=/public.test/{PUBLIC_INSIDE}",
                f"--address=/intranet.corp.test/{INTRANET}",
                "--local=/corp.test/",
            ],
        )
        self.outside.capture("eth0", "sniffer")

    def seen_outside(self) -> bytes:
        """All that left through the client's eth0 so far, in lower case."""
        seen = len(self.outside.packets("sniffer"))
        self.client.run(["bash", "-c", f"echo '{SENTINEL.decode()}' > /dev/udp/{OUTSIDE4}/9"])

        def packets() -> list[bytes] | None:
            found = self.outside.packets("sniffer")
            return found if any(SENTINEL in packet for packet in found[seen:]) else None

        return b"\0".join(wait_for(packets, "the sniffer has seen everything")).lower()

    def silence_tunnel(self) -> None:
        """The tunnel's name servers do not answer any more."""
        self.inside.nft(
            "table inet t { chain c { type filter hook input priority 0; meta l4proto { tcp, udp } th dport 53 drop; }; }"
        )

    def tails(self) -> str:
        return "\n".join(program.tail() for host in self.hosts for program in host.programs)

    def close(self) -> None:
        for host in self.hosts:
            host.close()


def _name_server(host: Host, addresses: list[str], options: list[str]) -> Program:
    program = host.start(
        [
            # --no-daemon, because else it changes its account, which a user namespace does not allow.
            *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--pid-file=", "--log-queries"),
            *("--no-resolv", "--no-hosts", "--bind-interfaces"),
            *(f"--listen-address={address}" for address in addresses),
            *options,
        ],
        "dnsmasq",
    )
    program.wait_log("started")
    return program


class Machine:
    """A client with one kind of name resolution, and how somebody else meddles with it."""

    kind: str

    def __init__(self, network: Network) -> None:
        self.network, self.host = network, network.client
        self.environment = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self.host.directory}/no-bus"}
        self.journal = self.host.directory / "journal.json"
        self.prepare()

    def prepare(self) -> None: ...

    def meddle(self) -> None: ...

    def state(self) -> object:
        """What has to be the same again in the end."""
        return self.read("/etc/resolv.conf")

    def read(self, path: str) -> str:
        return self.host.run(["base64", path]).stdout

    def shell(self, script: str) -> str:
        return self.host.run(["sh", "-ec", script], environment=self.environment).stdout

    def own_etc(self) -> None:
        """A copy of /etc for this host, where /etc/resolv.conf may be what it likes."""
        own = self.host.directory / "etc"
        # An ordinary user cannot read all of it, and nothing here needs that.
        self.shell(
            f"mkdir {own}; cp -dR --preserve=mode /etc/. {own}/ 2>/dev/null || true; mount --bind {own} /etc"
        )

    def resolve(self, name: str, *, options: str = "") -> str | None:
        """What the C library's resolver says, as any program would ask it. options: in resolv.conf's words."""
        environment = {"RES_OPTIONS": options} if options else None
        command = ["getent", "ahostsv4", name]
        done = self.host.run(command, check=False, deadline=90, environment=environment)
        return done.stdout.split()[0] if done.returncode == 0 else None

    def agent(self, *, split: bool, domains: tuple[str, ...] = ("corp.test",)) -> Agent:
        return Agent(self, split, domains)

    def restore(self) -> str:
        command = self.host.python("tests.e2e.client_dns.agent", "--restore", str(self.journal))
        return self.host.run(command, environment=self.environment).stdout


class Agent:
    """The part of the client service that is under test, running on the machine."""

    def __init__(self, machine: Machine, split: bool, domains: tuple[str, ...]) -> None:
        (link,) = machine.host.ip_json("link", "show", "lockgate0")
        wish = {
            "servers": [INSIDE6, INSIDE4],
            "domains": domains,
            "split": split,
            "interface": "lockgate0",
            "ifindex": link["ifindex"],
        }
        self.program = machine.host.start(
            machine.host.python("tests.e2e.client_dns.agent", json.dumps(wish), str(machine.journal)),
            "agent",
            hold=True,
            environment=machine.environment,
        )
        self._heard = 0
        self.driver = self._answer("ready")

    def __call__(self, command: str) -> Any:
        assert self.program.process.stdin is not None
        self.program.process.stdin.write(command.encode() + b"\n")
        self.program.process.stdin.flush()
        return self._answer(command)

    def kill(self) -> None:
        self.program.process.kill()
        self.program.process.wait()

    def _answer(self, command: str) -> Any:
        pattern = f'^{{"answer": "{command}", "result": (.*)}}$'
        match = self.program.wait_log(pattern, after=self._heard, deadline=60)
        self._heard = match.end()
        return json.loads(match[1])


class PlainFileMachine(Machine):
    """/etc/resolv.conf is a bind-mounted file (tests/lab/host.py lays it there) that nobody manages."""

    kind = "file"

    def prepare(self) -> None:
        self.shell(f"printf '# home\\nnameserver {OUTSIDE4}\\nsearch lan\\n' > /etc/resolv.conf")

    def meddle(self) -> None:
        self.shell(f"printf 'nameserver {OUTSIDE4}\\nsearch other.lan\\n' > /etc/resolv.conf")


class _ResolvconfMachine(Machine):
    def _lay(self, links: dict[str, str]) -> None:
        """Programs of an unpacked package in /sbin and /lib, a copy of /etc and an empty /run, for this host."""
        root = UNPACKED / self.kind
        own = self.host.directory
        self.own_etc()
        script = ""
        for system, package in links.items():
            name = system.strip("/").replace("/", "-")
            # A directory of links to the real entries and to the package's: nothing of it reaches the machine.
            script += (
                f"mkdir {own}/{name}.real {own}/{name}; mount --bind {system} {own}/{name}.real\n"
                f'for e in {own}/{name}.real/* {root}{package}/*; do ln -sfn "$e" {own}/{name}/; done\n'
                f"mount --bind {own}/{name} {system}\n"
            )
        self.shell(
            script
            + f"rm -rf /etc/resolvconf*; cp -dR --preserve=mode {root}/etc/. /etc/; mount -t tmpfs none /run"
        )

    def state(self) -> object:
        return [super().state(), self.shell("resolvconf -l")]


class OpenresolvMachine(_ResolvconfMachine):
    kind = "openresolv"

    def prepare(self) -> None:
        self._lay({"/usr/sbin": "/sbin", "/usr/lib": "/lib"})
        self.shell(
            f"echo '# Generated by resolvconf' > /etc/resolv.conf; printf 'nameserver {OUTSIDE4}\\nsearch lan\\n' | resolvconf -a eth0.dhcp"
        )

    def meddle(self) -> None:
        self.shell(f"printf 'nameserver {OUTSIDE4}\\n' | resolvconf -x -a zz9")


class DebianResolvconfMachine(_ResolvconfMachine):
    kind = "resolvconf"

    def prepare(self) -> None:
        self._lay({"/usr/sbin": "/sbin", "/usr/lib": "/lib"})
        self.shell(
            "rm /etc/resolv.conf; ln -s ../run/resolvconf/resolv.conf /etc/resolv.conf\n"
            "mkdir -p /run/resolvconf/interface; resolvconf --enable-updates\n"
            f"printf 'nameserver {OUTSIDE4}\\nsearch lan\\n' | resolvconf -a eth0.dhclient"
        )

    def meddle(self) -> None:
        self.shell("resolvconf -d lo.lockgate")


_BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
"""


def start_bus(host: Host) -> dict[str, str]:
    """A system bus of this host's own; the environment that leads to it."""
    socket, config = host.directory / "bus", host.directory / "bus.conf"
    config.write_text(_BUS.format(socket=socket))
    program = host.start(["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address=1"], "bus")
    program.wait_log("^unix:")
    return {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={socket}"}


class ResolvedMachine(Machine):
    """The network's DHCP calls itself by names of ours, as a hostile one would."""

    kind = "systemd-resolved"

    def prepare(self) -> None:
        self.environment = start_bus(self.host)
        self.own_etc()
        # The accounts they change to have root's own number: a user namespace of an ordinary user has no other.
        self.shell(
            "sed -i '/^systemd-/d' /etc/passwd\n"
            "printf '%s:x:0:0::/:/bin/false\\n' systemd-resolve systemd-network >> /etc/passwd\n"
            "rm /etc/resolv.conf; ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf\n"
            "mkdir -p /run/systemd; mount -t tmpfs none /run/systemd"
        )
        self.host.start(
            [str(UNPACKED / self.kind / "lib/systemd/systemd-resolved")],
            "resolved",
            environment=self.environment,
        )
        wait_for(lambda: self.control("status") is not None, "systemd-resolved answers")
        self.configure()

    def configure(self) -> None:
        self.control("dns", "eth0", OUTSIDE4)
        self.control("domain", "eth0", "lan", "corp.test", "~eu.corp.test")
        self.control("default-route", "eth0", "yes")

    def meddle(self) -> None:
        self.control("domain", "eth0", "lan", "corp.test")

    def state(self) -> object:
        # The tunnel's device is as it was, with nothing of ours.
        return (
            self.control("dns"),
            self.control("domain"),
            self.control("llmnr"),
            self.control("default-route"),
        )

    def control(self, *arguments: str) -> str:
        program = str(UNPACKED / self.kind / "usr/bin/resolvectl")
        said = self.host.run([program, *arguments], environment=self.environment).stdout
        return re.sub(r"(?m)^(Link \d+ \(lockgate0\): *)(yes|no)$", r"\1", said)


_NETWORK = f"""
[Match]
Name=eth0
[Network]
KeepConfiguration=yes
LinkLocalAddressing=no
DNS={OUTSIDE4}
Domains=lan corp.test ~eu.corp.test
DNSDefaultRoute=yes
"""


class NetworkdMachine(ResolvedMachine):
    """eth0 is systemd-networkd's: systemd-resolved then takes no other's word for it."""

    def configure(self) -> None:
        self.shell(
            # Without udev it manages links only where /sys is read-only, as in containers.
            "mount -t sysfs -o ro sysfs /sys; mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /etc/systemd/network\n"
            f"printf '%s' '{_NETWORK}' > /etc/systemd/network/eth0.network"
        )
        program = str(UNPACKED / "systemd/lib/systemd/systemd-networkd")
        self.host.start([program], "networkd", environment=self.environment)
        wait_for(
            lambda: "lan" in self.control("domain", "eth0"), "systemd-networkd has told systemd-resolved"
        )

    def meddle(self) -> None: ...


MACHINES = {
    machine.kind: machine
    for machine in (PlainFileMachine, OpenresolvMachine, DebianResolvconfMachine, ResolvedMachine)
}


def check_unpacked() -> None:
    needed = ["systemd", *(kind for kind in MACHINES if kind != "file")]
    missing = [package for package in needed if not (UNPACKED / package / ".complete").exists()]
    if missing:
        raise LabError(f"{', '.join(missing)}: not unpacked; run scripts/unpacked-packages outside the lab")
