"""A name server of the lab whose answers change: dnsmasq, with the addresses of names in a file."""

from __future__ import annotations

import signal

from tests.lab.host import Host

TTL = 1  # seconds; who follows the names asks again as soon as it may


class NameServer:
    """Answers for names under lab.test. Only A and AAAA records, good for TTL."""

    def __init__(self, host: Host, address: str, **names: str) -> None:
        """names: name without ".lab.test" → its addresses, with blanks between them."""
        self._hosts = host.directory / "names"
        self._known = dict(names)
        self._write()
        command = ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--pid-file=", "--no-resolv"]
        command += ["--no-hosts", f"--addn-hosts={self._hosts}", f"--local-ttl={TTL}", "--local=/lab.test/"]
        command += [f"--listen-address={address}", "--bind-interfaces"]
        self._program = host.start(command, "dnsmasq")
        self._program.wait_log("started")

    def _write(self) -> None:
        lines = [f"{one} {name}.lab.test" for name, known in self._known.items() for one in known.split()]
        self._hosts.write_text("".join(f"{line}\n" for line in lines))

    def move(self, **names: str) -> None:
        """Other addresses for these names from now on; none where the text is empty."""
        self._known |= names
        self._write()
        self._program.send(signal.SIGHUP)

    def stop(self) -> None:
        self._program.stop()
