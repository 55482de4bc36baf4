"""What the real client is put through: its command line, and what the server does at each event."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.transcripts.transcript import Command

COOKIE = b"00c0ffee00c0ffee00c0ffee00c0ffee"
OTHER_COOKIE = b"0badcafe0badcafe0badcafe0badcafe"
PASSWORD = "password-placeholder"
WRONG_PASSWORD = "password-mistyped"
NEW_PASSWORD = "password-replaced"
LONG_PASSWORD = "password-253-" + "x" * 240
UTF8_PASSWORD = "pässwörd-π-Платц-密码"
CODE = "424242"
SPI = 0xA0A1A2A3
SECRET = b"ESP secret of the server, a placeholder.".ljust(64, b".")
NEXT_SPI = 0xB0B1B2B3
NEXT_SECRET = b"Next ESP secret of the server, a placeholder.".ljust(64, b".")
# In place of a program that handles packets. It must neither outlive openconnect nor hold its output open.
WAIT_FOR_THE_END = 'exec >/dev/null 2>&1; while kill -0 "$PPID"; do sleep 0.1; done'


@dataclass(frozen=True)
class Interrupt:
    text: str = "SIGINT to the client"


@dataclass(frozen=True)
class Close:
    text: str = "the server closes the connection"


Action: TypeAlias = Command | Interrupt | Close
Turn: TypeAlias = tuple[str, list[Action]]


@dataclass(frozen=True)
class Scenario:
    """`turns`: for each event of the core, in order, its name and what is done then. `tunnel` brings the
    tunnel up with a script that sleeps, otherwise the client ends after the sign-in."""

    name: str
    title: str
    turns: list[Turn]
    arguments: tuple[str, ...] = ("-u", "alice", "--passwd-on-stdin")
    stdin: str = ""
    tunnel: bool = False
    exit_code: int = 0
    says: tuple[str, ...] = ()

    def command(self, port: int, ca_file: str) -> list[str]:
        """Argument list of the client."""
        server = ["--cafile", ca_file, "--resolve", "gw.test:127.0.0.1", f"https://gw.test:{port}/"]
        return [*self.shown_command(), *server]

    def shown_command(self) -> list[str]:
        """The same without what differs from run to run."""
        mode = ["--script-tun", "--script", WAIT_FOR_THE_END] if self.tunnel else ["--authenticate"]
        return ["openconnect", "--protocol=pulse", "--local-hostname", "laptop1", *self.arguments, *mode]


def do(name: str, *arguments: Any) -> Command:
    return Command(name, arguments)


def lines(*texts: str) -> str:
    return "".join(f"{text}\n" for text in texts)


ASK_PASSWORD: Turn = ("ClientReady", [do("ask_credentials")])
ACCEPT = do("signed_in", COOKIE, 3600, 600)
DONE: Turn = ("SignInAcknowledged", [])
UP = "Configured as 10.88.0.10"
SIGN_IN = lines(PASSWORD)


def sign_in(name: str, title: str, *turns: Turn, **options: Any) -> Scenario:
    """A scenario that begins with the password question and ends with the sign-in."""
    return Scenario(name, title, [ASK_PASSWORD, *turns, DONE], **options)


SCENARIOS = [
    sign_in("password", "User name and password", ("CredentialsGiven", [ACCEPT]), stdin=SIGN_IN),
    sign_in(
        "password-retry",
        "A wrong password, then the right one",
        ("CredentialsGiven", [do("ask_credentials", {"retry": True})]),
        ("CredentialsGiven", [ACCEPT]),
        stdin=lines(WRONG_PASSWORD, PASSWORD),
    ),
    sign_in("password-empty", "An empty password", ("CredentialsGiven", [ACCEPT]), stdin=lines("")),
    sign_in(
        "password-longest",
        "The longest password a client can send, 253 bytes",
        ("CredentialsGiven", [ACCEPT]),
        stdin=lines(LONG_PASSWORD),
    ),
    sign_in(
        "password-utf8",
        "A password outside ASCII",
        ("CredentialsGiven", [ACCEPT]),
        stdin=lines(UTF8_PASSWORD),
    ),
    Scenario(
        "realm-choice",
        "Choice of a realm, then user name and password",
        [
            ("ClientReady", [do("ask_realm", ["Users", "Admins"])]),
            ("RealmChosen", [do("ask_credentials")]),
            ("CredentialsGiven", [ACCEPT]),
            DONE,
        ],
        arguments=("-u", "alice", "--passwd-on-stdin", "--authgroup", "admins"),
        stdin=SIGN_IN,
    ),
    Scenario(
        "realm-entry",
        "A realm typed by the user",
        [
            ("ClientReady", [do("ask_realm_name")]),
            ("RealmChosen", [do("ask_credentials")]),
            ("CredentialsGiven", [ACCEPT]),
            DONE,
        ],
        arguments=(
            *("-u", "alice", "--passwd-on-stdin"),
            *("--form-entry", "pulse_realm_entry:realm=Contractors"),
        ),
        stdin=SIGN_IN,
    ),
    sign_in(
        "token",
        "A token code together with the user name, asked for twice; the second text is shown",
        ("CredentialsGiven", [do("ask_token", "Code from your app", {"username": True})]),
        ("TokenGiven", [do("ask_token", "Wrong; the next one, please", {"username": True})]),
        ("TokenGiven", [ACCEPT]),
        stdin=lines(PASSWORD, "111111", CODE),
        says=("Token code request:", "Wrong; the next one, please"),
    ),
    sign_in(
        "token-second-factor",
        "A token code without the user name, asked for twice; no text is shown, labels are",
        ("CredentialsGiven", [do("ask_token", "Code from your app")]),
        ("TokenGiven", [do("ask_token", "never shown", {"password_label": "Wrong; next code"})]),
        ("TokenGiven", [ACCEPT]),
        stdin=lines(PASSWORD, "111111", CODE),
        says=("Token code request:", "Wrong; next code:"),
    ),
    sign_in(
        "secondary",
        "Password, then secondary credentials with labels, then only a password",
        (
            "CredentialsGiven",
            [
                do(
                    "ask_credentials",
                    {"secondary": True, "user_label": "Badge", "password_label": "Door code"},
                )
            ],
        ),
        ("CredentialsGiven", [do("ask_credentials", {"username": False})]),
        ("CredentialsGiven", [ACCEPT]),
        arguments=("-u", "alice", "--passwd-on-stdin", "--form-entry", "pulse_secondary:username=badge-7"),
        stdin=lines(PASSWORD, "secondary-placeholder", "third-placeholder"),
        says=("Enter secondary credentials:", "Door code:"),
    ),
    sign_in(
        "session-choice",
        "Too many sessions: one must be ended",
        (
            "CredentialsGiven",
            [
                do(
                    "ask_session",
                    ("5e551001", "192.0.2.1", 1700000000),
                    ("5e551002", "2001:db8::1", 1700003600),
                )
            ],
        ),
        ("SessionChosen", [ACCEPT]),
        arguments=(
            *("-u", "alice", "--passwd-on-stdin"),
            *("--form-entry", "pulse_session_kill:session_choice=5e551002"),
        ),
        stdin=SIGN_IN,
    ),
    sign_in(
        "notice",
        "A notice to be accepted, which openconnect does unasked",
        ("CredentialsGiven", [do("notify", "Maintenance tonight from ten")]),
        ("NoticeAccepted", [ACCEPT]),
        stdin=SIGN_IN,
    ),
    sign_in(
        "password-change",
        "An expired password is replaced; the first new one is not good enough",
        ("CredentialsGiven", [do("ask_new_password")]),
        ("NewPasswordGiven", [do("ask_new_password")]),
        ("NewPasswordGiven", [ACCEPT]),
        stdin=lines(PASSWORD, PASSWORD, "weak", "weak", PASSWORD, NEW_PASSWORD, NEW_PASSWORD),
    ),
    Scenario(
        "refused",
        "The sign-in is refused with a text",
        [ASK_PASSWORD, ("CredentialsGiven", [do("refuse", "No address is left for you")])],
        stdin=SIGN_IN,
        exit_code=1,
        says=("Authentication failure: No address is left for you",),
    ),
    Scenario(
        "failed",
        "The sign-in fails with a number",
        [ASK_PASSWORD, ("CredentialsGiven", [do("fail", 0x0D)])],
        stdin=SIGN_IN,
        exit_code=1,
        says=("Authentication failure: Account locked out",),
    ),
    Scenario(
        "cookie-good",
        "A session is resumed by its cookie, without ESP; the user logs out",
        [
            ("ClientReady", [do("signed_in", COOKIE, 1800, 0)]),
            (
                "SignInAcknowledged",
                [do("configure", "captured without ESP"), do("end_configuration"), Interrupt()],
            ),
            ("LoggedOut", []),
        ],
        arguments=("--cookie-on-stdin",),
        stdin=lines(COOKIE.decode()),
        tunnel=True,
        says=(UP,),
    ),
    Scenario(
        "cookie-bad",
        "A cookie that is not good any more: any question makes the client give up",
        [("ClientReady", [do("ask_credentials")])],
        arguments=("--cookie-on-stdin",),
        stdin=lines("DSID=" + OTHER_COOKIE.decode()),
        tunnel=True,
        exit_code=2,
        says=("cookie not accepted",),
    ),
    Scenario(
        "tunnel-esp",
        "Both address families, ESP keys, a rekey over TLS, logout by SIGINT",
        [
            ASK_PASSWORD,
            ("CredentialsGiven", [ACCEPT]),
            (
                "SignInAcknowledged",
                [
                    do("configure", "both families"),
                    do("offer_esp", SPI, SECRET),
                    do("end_configuration"),
                ],
            ),
            ("EspKeysAnswered", []),
            ("EspReady", [do("nudge_esp"), do("offer_esp", NEXT_SPI, NEXT_SECRET)]),
            ("EspKeysAnswered", [Interrupt()]),
            ("LoggedOut", []),
        ],
        stdin=SIGN_IN,
        tunnel=True,
        says=(UP + " + fd88::a",),
    ),
    Scenario(
        "tunnel-no-esp",
        "The user has switched ESP off: the keys are never answered",
        [
            ASK_PASSWORD,
            ("CredentialsGiven", [ACCEPT]),
            (
                "SignInAcknowledged",
                [
                    do("configure", "captured"),
                    do("offer_esp", SPI, SECRET),
                    do("end_configuration"),
                    Interrupt(),
                ],
            ),
            ("LoggedOut", []),
        ],
        arguments=("-u", "alice", "--passwd-on-stdin", "--no-dtls"),
        stdin=SIGN_IN,
        tunnel=True,
        says=(UP,),
    ),
    Scenario(
        "tunnel-fatal",
        "An IPv6-only tunnel, ended for good by the server",
        [
            ASK_PASSWORD,
            ("CredentialsGiven", [ACCEPT]),
            (
                "SignInAcknowledged",
                [
                    do("configure", "only IPv6"),
                    do("end_configuration"),
                    do("fatal", 8, "session timed out"),
                ],
            ),
        ],
        stdin=SIGN_IN,
        tunnel=True,
        exit_code=1,
        says=("Pulse fatal error (reason: 8): session timed out",),
    ),
]
