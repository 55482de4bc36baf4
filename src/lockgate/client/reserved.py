"""What of a gateway's words about addresses and networks no tunnel can lead to.

A gateway that gives a reserved address as the inner one, or a network of them to be tunnelled, is mistaken or
hostile: 127.0.0.1 on the tunnel's device would let whoever is behind it speak to services that listen for this
machine alone, and 169.254.169.254 is where clouds hand out their machines' credentials.
"""

from __future__ import annotations

from lockgate.client.segments import Network, inside
from lockgate.model.reserved import RESERVED
from lockgate.model.reserved import is_reserved as is_reserved


def all_reserved(network: Network) -> bool:
    """Whether no address of the network could be behind a gateway."""
    return inside(network, RESERVED)
