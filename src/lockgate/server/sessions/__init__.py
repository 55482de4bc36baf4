"""Session life: opened for an Identity, resumed by cookie, ended once.

`service`  `Sessions`: limits, deadlines, what a cookie is worth, audit
`addresses`  which client addresses a profile gives; whether a client is where it was
`cookie`   how a cookie is made and what of it is stored
`endings`  why sessions were ended, and the support codes of it
`extension`  how far one may be extended
`proof`    what a session bound to a key asks for beside its cookie
`readmission`  what a live session is worth now

Addresses and rows are the store's; packets are the edge's. Whoever ends a session here tells the
edge as well (`server.gateway`).
"""

from lockgate.server.sessions.cookie import session_number
from lockgate.server.sessions.extension import counted_anew
from lockgate.server.sessions.proof import Proof
from lockgate.server.sessions.readmission import facts_of, grant_of
from lockgate.server.sessions.service import NOT_EXTENDABLE, OVER, By, Opened, Sessions

__all__ = [
    "NOT_EXTENDABLE",
    "OVER",
    "By",
    "Opened",
    "Proof",
    "Sessions",
    "counted_anew",
    "facts_of",
    "grant_of",
    "session_number",
]
