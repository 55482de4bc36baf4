"""Ending a session at the gateway where no tunnel does it."""

from __future__ import annotations

import asyncio

from lockgate.client import problems
from lockgate.client.service.dialer import Dialer, Transport
from lockgate.client.service.front import Nobody
from lockgate.client.service.hub import EdgeHub
from lockgate.client.service.resume_key import ResumeKey, introduction
from lockgate.client.service.saved_session import SavedSession
from lockgate.client.service.sign_in import AttemptError, Conversed, Conversing, Wishes
from lockgate.model.problem import ProblemError
from lockgate.protocol import edge_link
from lockgate.protocol.pulse.client import ClientConversation

PATIENCE = 5.0  # seconds for a log-out that needs a connection of its own


def leave(hub: EdgeHub, transport: Transport, conversation: ClientConversation) -> None:
    """Ends the session on a connection that no tunnel has yet."""
    conversation.log_out()
    for frame in conversation.take_frames():
        hub.send(edge_link.LinkFrame(transport.wire.conn, frame.vendor, int(frame.kind), frame.body))


async def log_out(hub: EdgeHub, dialer: Dialer, saved: SavedSession) -> None:
    """Ends a session that has no connection: one is made for that. Best effort."""
    try:
        async with asyncio.timeout(PATIENCE):
            transport = await dialer.open(saved.settings, saved.expected(), Nobody(), saved.uid)
            try:
                key = ResumeKey(saved.key)
                conversation = ClientConversation(introduction(key, transport, saved.cookie))

                async def on_signed_in(_: Conversed) -> None:
                    leave(hub, transport, conversation)
                    raise AttemptError(problems.CANCELLED, final=True)

                await Conversing(hub, transport.wire, conversation, Nobody(), Wishes(), on_signed_in).run()
            finally:
                hub.drop_wire(transport.wire)
    except (AttemptError, ProblemError, TimeoutError):
        pass
