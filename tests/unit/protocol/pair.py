"""Our client and our server back to back in memory."""

from dataclasses import dataclass, field
from typing import Any

from lockgate.protocol.pulse.client import ClientConversation
from lockgate.protocol.pulse.client_introduction import ClientIntroduction
from lockgate.protocol.pulse.server import ServerConversation

FACTS = {"host_name": "laptop1", "client_address": "10.99.0.2", "user_agent": "Lockgate/0 (Linux)"}


@dataclass
class Pair:
    """`settle` carries frames both ways until nobody has any; then the events of each side can be taken."""

    client: ClientConversation
    server: ServerConversation = field(default_factory=ServerConversation)
    from_server: list[Any] = field(default_factory=list)
    from_client: list[Any] = field(default_factory=list)

    def settle(self) -> "Pair":
        while True:
            up, down = self.client.take_frames(), self.server.take_frames()
            if not up and not down:
                return self
            for frame in up:
                self.from_client += self.server.receive(frame)
            for frame in down:
                self.from_server += self.client.receive(frame)

    def seen(self) -> list[Any]:
        """Events of the client since the last call."""
        self.settle()
        events, self.from_server = self.from_server, []
        return events

    def told(self) -> list[Any]:
        """Events of the server since the last call."""
        self.settle()
        events, self.from_client = self.from_client, []
        return events


def client(**facts: Any) -> ClientConversation:
    return ClientConversation(ClientIntroduction(**{**FACTS, **facts}))


def introduced(**facts: Any) -> Pair:
    """Both have introduced themselves; the server decides."""
    pair = Pair(client(**facts))
    pair.client.start()
    [_] = pair.seen()
    return pair
