"""What `details` shows of a connection beside its state."""

from __future__ import annotations

from dataclasses import dataclass

from lockgate.protocol import edge_link

NO_TRAFFIC = edge_link.Traffic(0, 0, 0, 0, 0)


@dataclass(slots=True)
class Figures:
    """Kept up to date by the connection."""

    peer: str = ""
    proxy: str = ""
    traffic: edge_link.Traffic = NO_TRAFFIC
    before: edge_link.Traffic = NO_TRAFFIC  # of earlier edges
    reconnects: int = 0
    path_mtu: int = 0
    connected_since: float | None = None
    tls: tuple[str, str, str] = ("", "", "")

    def total(self) -> edge_link.Traffic:
        return edge_link.Traffic(
            *(
                getattr(self.before, name) + getattr(self.traffic, name)
                for name in ("packets_in", "bytes_in", "packets_out", "bytes_out", "dropped")
            )
        )
