"""Moving much data through the network and checking every byte: for the demo, the tests and the benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

from tests.lab.host import Host
from tests.lab.intranet import expected_digest
from tests.lab.waiting import LabError


@dataclass(frozen=True, slots=True)
class Transfer:
    """One finished transfer."""

    size: int  # bytes
    seconds: float

    @property
    def megabytes_per_second(self) -> float:
        return self.size / self.seconds / 1e6

    def __str__(self) -> str:
        rate = self.megabytes_per_second
        return f"{self.size / 1e6:.0f} MB in {self.seconds:.2f} s   {rate:6.1f} MB/s ({rate * 8 / 1000:.2f} Gbit/s)"


def download(client: Host, intranet: Host, address: str, size: int, *, deadline: float = 60.0) -> Transfer:
    """Fetch the first `size` bytes of the intranet's large file. raises: LabError unless every byte is right."""
    target = client.directory / "download"
    command = ["curl", "-sS", "--fail", "--max-time", f"{deadline:g}", "--output", str(target)]
    url = f"http://{_in_url(address)}/bytes/{size}"
    done = client.run([*command, "--write-out", "%{time_total}", url], deadline=deadline + 10)
    digest = client.run(["sha256sum", str(target)]).stdout.split()[0]
    target.unlink()
    if digest != expected_digest(intranet, size):
        raise LabError(f"{url} arrived with other content than was sent")
    return Transfer(size, float(done.stdout))


def upload(client: Host, intranet: Host, address: str, size: int, *, deadline: float = 60.0) -> Transfer:
    """Send `size` random bytes to the intranet. raises: LabError unless every byte is right."""
    source = client.directory / "upload"
    client.run(["sh", "-c", 'head -c "$0" /dev/urandom >"$1"', str(size), str(source)])
    digest = client.run(["sha256sum", str(source)]).stdout.split()[0]
    command = [
        "curl",
        "-sS",
        "--fail",
        "--max-time",
        f"{deadline:g}",
        "--header",
        "Expect:",
        "--request",
        "POST",
    ]
    url = f"http://{_in_url(address)}/sink"
    # --upload-file streams the file; --data-binary would hold it in memory.
    done = client.run(
        [*command, "--upload-file", str(source), "--write-out", "%{time_total}", url], deadline=deadline + 10
    )
    source.unlink()
    received, received_digest, seconds = done.stdout.split()
    if (int(received), received_digest) != (size, digest):
        raise LabError(f"{url} received {received} of {size} bytes, or other ones")
    return Transfer(size, float(seconds))


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address
