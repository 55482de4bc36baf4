"""Shows a sign-in conversation to an IF-T client: prompts become AVPs, answers become fields."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from lockgate.model.identity import Identity
from lockgate.model.prompt import (
    Conversation,
    Credentials,
    NewPassword,
    Notice,
    Prompt,
    RealmChoice,
    Refused,
    RoleChoice,
    SessionChoice,
    SignedIn,
    TokenCode,
)
from lockgate.model.session import ClientFacts
from lockgate.model.support_code import sentence
from lockgate.model.text import printable
from lockgate.protocol.errors import PeerError
from lockgate.protocol.pulse.events import (
    ClientReady,
    CredentialsGiven,
    NewPasswordGiven,
    NoticeAccepted,
    RealmChosen,
    SessionChosen,
    TokenGiven,
)
from lockgate.protocol.pulse.questions import MAX_REFUSAL, SessionOffer
from lockgate.protocol.pulse.server import ServerConversation
from lockgate.protocol.secret import Secret
from lockgate.server import tracing
from lockgate.server.gateway.connection import Connection, Event

log = structlog.get_logger("gateway")

TEXT_LIMIT = 200  # characters kept of what a client says about itself


def facts_of(connection: Connection[ServerConversation], ready: ClientReady) -> ClientFacts:
    """What the client says about itself, made safe to store and print."""
    return ClientFacts(
        source=connection.source,
        user_agent=printable(ready.user_agent, TEXT_LIMIT),
        host_name=printable(ready.host_name, TEXT_LIMIT),
    )


async def sign_in(connection: Connection[ServerConversation], conversation: Conversation) -> Identity | None:
    """Runs the conversation to its end; None when it ended in a refusal, which the client has seen.

    Raises PeerError and ConnectionLost as `Connection.next_event` does.
    """
    wire = connection.conversation
    step = await conversation.start()
    while True:
        match step:
            case SignedIn(identity):
                return identity
            case Refused() as refused:
                wire.refuse(refused.told(MAX_REFUSAL))
                return None
            case _:
                _ask(wire, step)
                connection.flush()
                with tracing.part("client answers", {"lockgate.prompt": type(step).__name__}):
                    event = await connection.next_event()
                step = await conversation.answer(_fields(step, event))


def _ask(wire: ServerConversation, prompt: Prompt) -> None:
    match prompt:
        case Notice(text):
            wire.notify(text)
        case RealmChoice(()):
            wire.ask_realm_name()
        case RealmChoice(realms):
            wire.ask_realm(realms)
        case Credentials(retry, user_label, password_label, support):
            if support:
                # Nothing in the protocol says why an answer was wrong; a label is the one text that is shown.
                password_label = f"{password_label.rstrip(': ') or 'Password'} ({sentence(support)}):"
            wire.ask_credentials(retry=retry, user_label=user_label, password_label=password_label)
        case NewPassword():
            wire.ask_new_password()
        case TokenCode(text):
            wire.ask_token(text)
        case RoleChoice(options):
            # Clients have no question of that kind (if-t-tls.md, section 8.2): it is put as one for a code, of
            # which openconnect shows the label and our own client the text.
            offers = "; ".join(f"{number}: {', '.join(roles)}" for number, roles in enumerate(options, 1))
            wire.ask_token(f"Choose by number. {offers}", password_label=f"Role ({offers}):")
        case SessionChoice(options):
            wire.ask_session([SessionOffer(o.id, o.address, int(o.started)) for o in options])


def _fields(prompt: Prompt, event: Event) -> Mapping[str, object]:
    """The answer as the conversation wants it. PeerError when it answers another question."""
    match prompt, event:
        case Notice(), NoticeAccepted():
            return {}
        case RealmChoice(), RealmChosen(name):
            return {"realm": name}
        case Credentials(), CredentialsGiven(username, password):
            return {"password": password} | ({} if username is None else {"username": username})
        case NewPassword(), NewPasswordGiven(old, new):
            return {"old": old, "new": new}
        case TokenCode(), TokenGiven(_, code):
            return {"code": code}
        case RoleChoice(options), TokenGiven(_, code):
            return {"roles": _role_index(options, code)}
        case SessionChoice(), SessionChosen(session):
            return {"session": session}
        case _:
            raise PeerError(f"{type(event).__name__} does not answer {type(prompt).__name__}")


def _role_index(options: tuple[tuple[str, ...], ...], typed: Secret) -> str:
    """Which option was typed, by its number or its names; "" for none of them."""
    try:
        text = typed.reveal_text().strip().casefold()
    except ValueError:
        return ""
    known = {str(number): str(number - 1) for number in range(1, len(options) + 1)}
    known |= {", ".join(roles).casefold(): str(index) for index, roles in enumerate(options)}
    return known.get(text, "")
