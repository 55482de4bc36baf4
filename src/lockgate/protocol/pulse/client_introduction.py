"""What our client tells about itself, and how it is said: `client_facts` from the other end."""

import ipaddress
import re
from dataclasses import dataclass

from lockgate.protocol.avp import Avp
from lockgate.protocol.errors import UsageError
from lockgate.protocol.launch_url import HANDLE
from lockgate.protocol.pulse.client_facts import MAX_HOST_NAME, MAX_SHORT_TEXT, MAX_USER_AGENT
from lockgate.protocol.pulse.codes import Code, avp
from lockgate.protocol.pulse.extensions import PROOF, PUBLIC_KEY, TEXT_KEY, capability_words
from lockgate.protocol.secret import Secret

_NOT_IN_A_WORD = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class ClientIntroduction:
    """Facts sent before the first question; empty ones are left out.

    client_address: local address of the connection's socket.
    user_agent:     `Lockgate/<version> (<system>)`: gateways key optional features on it.
    capabilities:   of `extensions`.
    cookie:         resume this session instead of signing in.
    public_key:     32 bytes, with a fresh sign-in: the key that resumptions will be signed with.
    proof:          64 bytes, with a cookie: signature of `extensions.resume_message`.
    handle:         32 bytes, with a fresh sign-in: what the portal's Start gave, in place of all questions.
    """

    host_name: str
    client_address: str
    user_agent: str
    system: str = ""
    locale: str = ""
    capabilities: frozenset[str] = frozenset()
    cookie: Secret | None = None
    public_key: bytes = b""
    proof: bytes = b""
    handle: Secret | None = None

    def __post_init__(self) -> None:
        if len(self.public_key) not in (0, PUBLIC_KEY) or len(self.proof) not in (0, PROOF):
            raise UsageError("a public key has 32 bytes, a proof 64")
        if self.proof and self.cookie is None:
            raise UsageError("a proof without the cookie it is for")
        if self.handle is not None and (len(self.handle.reveal()) != HANDLE or self.cookie is not None):
            raise UsageError("a handle has 32 bytes and goes with no cookie")
        if self.client_address:
            try:
                ipaddress.ip_address(self.client_address)
            except ValueError:
                raise UsageError("the client's address is no IP address") from None

    def text(self) -> bytes:
        """Body of the client information frame: words `key=value`, so no value may hold a blank."""
        host_name = _NOT_IN_A_WORD.sub("-", self.host_name)[:MAX_HOST_NAME]
        words = [f"clientHostName={host_name}"]
        if self.client_address:
            words.append(f"clientIp={self.client_address}")
        if self.capabilities:
            words.append(f"{TEXT_KEY}={capability_words(self.capabilities)}")
        return " ".join(words).encode() + b"\n\0"

    def avps(self) -> list[Avp]:
        """The first packet of AVPs."""
        out = [avp(Code.USER_AGENT, self.user_agent.encode()[:MAX_USER_AGENT])]
        if self.cookie is not None:
            out.append(avp(Code.COOKIE, self.cookie.reveal()))
        if self.system:
            out.append(avp(Code.SYSTEM, self.system.encode()[:MAX_SHORT_TEXT]))
        if self.locale:
            out.append(avp(Code.LOCALE, self.locale.encode()[:MAX_SHORT_TEXT]))
        if self.public_key:
            out.append(avp(Code.SESSION_KEY, self.public_key))
        if self.proof:
            out.append(avp(Code.RESUME_PROOF, self.proof))
        if self.handle is not None:
            out.append(avp(Code.LAUNCH_HANDLE, self.handle.reveal()))
        return out
