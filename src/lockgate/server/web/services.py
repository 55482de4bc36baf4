"""What the HTTP application works with: one object, made once per process.

REST, console and portal call the same services; `lockgate` calls REST (`local`). Without a running server
`gateway` and `sign_ins` are None, and what needs them says so.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockgate.model.problem import Problem, ProblemError

if TYPE_CHECKING:
    from lockgate.server.audit import Audit
    from lockgate.server.auth.service import SignIns
    from lockgate.server.config.service import ConfigService
    from lockgate.server.datadir import DataDirectory
    from lockgate.server.decisions import Decisions
    from lockgate.server.explanations import Explanations, Resolve
    from lockgate.server.gateway.service import GatewayService
    from lockgate.server.in_force import InForce
    from lockgate.server.launch_handles import LaunchHandles
    from lockgate.server.sampling import Sampling
    from lockgate.server.sessions import Sessions
    from lockgate.server.store.interface import Store
    from lockgate.server.trace_export import TraceExport
    from lockgate.server.vault import Vault
    from lockgate.server.web.sessions import WebSessions


@dataclass(frozen=True, kw_only=True)
class Services:
    """The services of one process.

    in_force: the policy of the current revision. started: when the server was, seconds since 1970.
    addresses: those of a DNS name.
    user_changed: cuts off what ended with a change of an account, and lets the rest follow (server, name).
    """

    directory: DataDirectory
    store: Store
    vault: Vault
    audit: Audit
    config: ConfigService
    in_force: InForce
    sessions: Sessions
    web_sessions: WebSessions
    decisions: Decisions
    explanations: Explanations
    addresses: Resolve
    sign_ins: SignIns | None = None
    gateway: GatewayService | None = None
    sampling: Sampling | None = None
    traces: TraceExport | None = None
    launch_handles: LaunchHandles | None = None
    user_changed: Callable[[str, str], Awaitable[object]] | None = None
    clock: Callable[[], float] = time.time
    started: float = 0.0

    def running(self) -> GatewayService:
        """The gateway. Raises ProblemError when this process is not the server."""
        if self.gateway is None:
            raise ProblemError(
                Problem(
                    "server-not-running",
                    f"No server is running with {self.directory.path}.",
                    f"Start it with `lockgate server run --dir {self.directory.path}`.",
                )
            )
        return self.gateway
