"""Who asks, with which rights; and what a route asks for.

Rights are those of `AdminRole`: an area, and "read" or "write". A route carries one `Needs`, which is
judged before its handler runs; what depends on the object is asked again there with `Principal.require`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, get_args

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.config.tree.authentication import AdminRole

Area = Literal[
    "system",
    "logs",
    "authentication",
    "users",
    "roles",
    "connections",
    "sessions",
    "maintenance",
    "user_records",
    "administrators",
]
Right = Literal["none", "read", "write"]
Kind = Literal["console", "token", "local"]

AREAS: Final[tuple[Area, ...]] = get_args(Area)
RECORDS: Final = "user_records"
"""Area of other gateways, which exchange the records of users with this one."""
CONFIG_SCOPE = "config"
"""Area of a token's scope that stands for everything which a pushed configuration may change."""
CONFIG_AREAS: Final = frozenset({"system", "logs", "authentication", "roles", "connections", "maintenance"})

_RANK = {"none": 0, "read": 1, "write": 2}
_NAME: Mapping[int, Right] = {0: "none", 1: "read", 2: "write"}


class NotAllowedError(ProblemError):
    """The request is refused for who asks. status: 401 when signing in may help, 403 when it does not."""

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(problem)
        self.status = status


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who may administer, for the length of one request.

    name:    canonical user name; of a local command who runs it, "uid:1000".
    rights:  area → right; what is not in it is "none".
    source:  address, or "local".
    session: web session or token that it came by.
    """

    name: str
    kind: Kind
    rights: Mapping[str, str]
    source: str
    server: str = ""
    roles: tuple[str, ...] = ()
    session: str | None = None
    token_name: str = field(default="", compare=False)

    @property
    def full(self) -> bool:
        """Everything is allowed: writing administrators could give itself the rest anyway."""
        return self.rights.get("administrators") == "write"

    @property
    def actor(self) -> str:
        """For the audit and as the author of revisions."""
        return f"{self.name} (token {self.token_name})" if self.kind == "token" else self.name

    def right(self, area: str) -> Right:
        """The right in an area; "none" for what is no area."""
        if area not in AREAS:
            return "none"
        return "write" if self.full else _NAME[_RANK.get(self.rights.get(area, "none"), 0)]

    def may(self, area: str, right: str = "read") -> bool:
        """False for an unknown area or right as well."""
        return right in ("read", "write") and _RANK[self.right(area)] >= _RANK[right]

    def may_anywhere(self, right: str = "read") -> bool:
        """Whether there is an area with that right. That of other gateways opens nothing that is for people."""
        return any(self.may(area, right) for area in AREAS if area != RECORDS)

    def require(self, area: str, right: str = "read") -> None:
        """Raises NotAllowedError unless `may`."""
        if not self.may(area, right):
            raise forbidden(area, right)

    def require_all(self, areas: Iterable[str], right: str = "write") -> None:
        """The same for several areas."""
        for area in sorted(areas):
            self.require(area, right)


LOCAL_RIGHTS: Final[Mapping[str, str]] = MappingProxyType(dict.fromkeys(AREAS, "write"))


def local_principal(name: str) -> Principal:
    """Whoever may run `lockgate` on the data directory, and so could read the database anyway."""
    return Principal(name, "local", LOCAL_RIGHTS, "local")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a route asks for.

    kind: "public" asks nothing; "portal" a user who is signed in at the portal; "any" an administrator
          with the right in at least one area, whose handler looks closer; "area" the right in `area`.
    """

    kind: Literal["public", "portal", "any", "area"]
    area: str = ""
    right: Right = "read"

    def judge(self, principal: Principal) -> None:
        """Raises NotAllowedError when an administrator may not. Never call it for "public" or "portal"."""
        match self.kind:
            case "any" if principal.may_anywhere(self.right):
                return
            case "area":
                principal.require(self.area, self.right)
            case _:
                raise forbidden(self.area or "any area", self.right)

    def text(self) -> str:
        """For documentation: "system:read"."""
        return {"area": f"{self.area}:{self.right}", "any": f"any:{self.right}"}.get(self.kind, self.kind)


PUBLIC: Final = Needs("public")
PORTAL: Final = Needs("portal")
ADMINISTRATOR: Final = Needs("area", "administrators", "write")
"""What a route that says nothing gets."""


def needs(area: Area, right: Right = "read") -> Needs:
    """The right in one area."""
    return Needs("area", area, right)


def needs_any(right: Right = "read") -> Needs:
    """The right in any area; the handler asks for the exact one."""
    return Needs("any", "", right)


def rights_of_scopes(scopes: Iterable[str]) -> dict[str, Right]:
    """What a token's scopes let through: "area:read", "area:write", "config:…", "*:…" or "*".

    A text that is none of these gives nothing.
    """
    rights: dict[str, Right] = dict.fromkeys(AREAS, "none")
    for scope in scopes:
        name, _, right = ("*", "", "write") if scope == "*" else scope.partition(":")
        if right not in ("read", "write"):
            continue
        for area in _areas_of(name):
            rights[area] = _NAME[max(_RANK[rights[area]], _RANK[right])]
    return rights


def is_scope(text: str) -> bool:
    """Whether `rights_of_scopes` understands it."""
    name, _, right = text.partition(":")
    return text == "*" or (right in ("read", "write") and bool(_areas_of(name)))


def _areas_of(name: str) -> tuple[str, ...]:
    if name == "*":
        return AREAS
    if name == CONFIG_SCOPE:
        return tuple(area for area in AREAS if area in CONFIG_AREAS)
    return (name,) if name in AREAS else ()


def smaller(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """The rights that both have."""
    return {
        area: _NAME[min(_RANK.get(one.get(area, ""), 0), _RANK.get(other.get(area, ""), 0))] for area in AREAS
    }


def larger(all_rights: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The rights that at least one has."""
    result = dict.fromkeys(AREAS, 0)
    for rights in all_rights:
        for area in AREAS:
            result[area] = max(result[area], _RANK.get(rights.get(area, ""), 0))
    return {area: _NAME[rank] for area, rank in result.items()}


def rights_of_roles(roles: Iterable[AdminRole], held: Collection[str]) -> dict[str, str]:
    """What the delegated roles with the names `held` give together."""
    return larger(role.model_dump() for role in roles if role.name in held)


def expanded(rights: Mapping[str, str]) -> dict[str, str]:
    """With full power written out, so that a token's scopes can take parts of it away."""
    if rights.get("administrators") == "write":
        return dict.fromkeys(AREAS, "write")
    return {area: rights.get(area, "none") for area in AREAS}


def unauthenticated() -> NotAllowedError:
    """Nobody is signed in."""
    return NotAllowedError(
        401,
        Problem("not-signed-in", "Nobody is signed in.", "Sign in, or send a token that is still valid."),
    )


def forbidden(area: str, right: str) -> NotAllowedError:
    """Somebody is, and may not."""
    return NotAllowedError(
        403,
        Problem(
            "not-allowed",
            f"This needs the right to {right} {area}.",
            "Ask an administrator whose role includes it.",
        ),
    )
