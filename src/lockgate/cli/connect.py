"""`lockgate connect`: options in, the request for the client service out.

Only what every call needs is imported here: the first byte to the service is to be quick.
"""

from __future__ import annotations

import os
import re

import click

from lockgate.cli.client_option import run_dir_option
from lockgate.cli.foreground import Foreground
from lockgate.cli.output import StreamCommand, examples, json_option, warn
from lockgate.cli.proxy_environment import proxy_for
from lockgate.cli.terminal import Keyboard, Screen, Signals
from lockgate.client.local_client import LocalClient
from lockgate.model.problem import Problem, ProblemError

MAX_CA = 128 << 10  # bytes: the CA certificates of one gateway are a few kilobytes
LINK = "pulsesecureclient:"  # as `protocol.launch_url`, which is imported when there is one


def _is_link(url: str) -> bool:
    return url == "-" or url.lstrip().lower().startswith(LINK)


def _url(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if _is_link(value):
        return value
    url = value if "://" in value else f"https://{value}"
    scheme, _separator, rest = url.partition("://")
    if "@" in rest.partition("/")[0]:
        # Not repeated: there may be a password in it.
        raise click.BadParameter("no user name or password in it; use --user, and type the password.")
    if scheme.lower() != "https" or not rest.strip("/") or not url.isprintable() or " " in url:
        raise click.BadParameter("an address like https://vpn.example.org/ is needed.")
    return url


def _pin(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    digits = value.lower().removeprefix("sha256:").replace(":", "")
    if not value.lower().startswith("sha256:") or not re.fullmatch("[0-9a-f]{64}", digits):
        raise click.BadParameter('it looks like "sha256:" and 64 hexadecimal digits.')
    return f"sha256:{digits}"


def _proxy(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and "@" in value:
        raise click.BadParameter("no user name or password in it: others on this machine could read them.")
    return "" if value == "none" else value


@click.command(
    cls=StreamCommand,
    epilog=examples(
        "lockgate connect https://vpn.example.org/",
        "lockgate connect vpn.example.org --user alice --background",
        "lockgate connect vpn.example.org --user alice --password-stdin --json < password-file",
        "lockgate connect 192.0.2.1 --ca ca.pem --proxy http://proxy.example.org:3128",
        "lockgate connect 'pulsesecureclient://connect?name=Office&server=vpn.example.org&handle=…'",
    ),
)
@click.argument("url", callback=_url, metavar="URL")
@click.option("--user", metavar="U", help="User name, instead of being asked for it.")
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Read secrets from standard input, a line for each that is asked for.",
)
@click.option("--realm", metavar="R", help="Realm to sign in to, where the gateway has several.")
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, readable=True),
    metavar="FILE",
    help="CA certificates (PEM) to trust instead of the system's.",
)
@click.option(
    "--pin",
    callback=_pin,
    metavar="sha256:HEX",
    help="Hash of the gateway's public key: trust this one only, whoever certified it.",
)
@click.option(
    "--proxy",
    callback=_proxy,
    metavar="URL|none",
    help="Web proxy to go through, or none.  [default: https_proxy of the environment, with its no_proxy]",
)
@click.option("--no-esp", is_flag=True, help="Stay on TLS, without UDP.")
@click.option("--background", is_flag=True, help="Return when connected; the connection stays.")
@click.option("--name", metavar="N", help="What to call the connection.  [default: the gateway's name]")
@run_dir_option
@json_option
@click.pass_context
def connect(
    ctx: click.Context,
    url: str,
    user: str | None,
    password_stdin: bool,
    realm: str | None,
    ca: str | None,
    pin: str | None,
    proxy: str | None,
    no_esp: bool,
    background: bool,
    name: str | None,
    run_dir: str,
    as_json: bool,
) -> None:
    """Connect this machine to the gateway at URL, and stay until Ctrl-C.

    Asks for what the gateway wants to know. Ctrl-C, SIGTERM and closing the terminal end the connection
    and wait until routes, DNS and firewall are as before; a second Ctrl-C does not wait. With --json every
    state is one JSON object on a line, and the details when connected.

    A web proxy, of --proxy or the environment variables https_proxy and no_proxy, is tried first; when it does
    not connect, the way goes directly.

    URL may be a link that begins with pulsesecureclient:// as the portal's Start button makes it, or - for such
    a link on standard input, where other users of this machine cannot see it. The server it names is shown, and
    nothing is connected before you have agreed.

    Exit status: 0 when you ended an established connection, or it stays in the background; 1 when it could
    not be established or was ended by something else, which is printed; 2 for wrong options; 130 for Ctrl-C
    before it was established.
    """
    keyboard, screen = Keyboard(), Screen(as_json)
    fields: dict[str, object] = {}
    if _is_link(url):
        if user or realm:
            raise click.UsageError("The link says who you are; leave --user and --realm out.")
        # Imported here: links are rare, and the first byte to the service is to be quick.
        from lockgate.cli.launch import ask_about, read_link, request_of

        link = read_link(url, keyboard, screen)
        ask_about(link, keyboard, screen)
        fields, url = request_of(link), str(link.server)
    if proxy is None:
        proxy = proxy_for(url, os.environ, warn) or None
    optional = {"user": user, "realm": realm, "pin": pin, "proxy": proxy, "name": name}
    request = fields | {key: value for key, value in optional.items() if value is not None}
    if ca is not None:
        request["ca"] = _read_ca(ca)
    request |= {
        "server": url,
        "esp": not no_esp,
        "background": background,
        "trust_prompt": keyboard.is_terminal,
    }
    with Signals() as signals, LocalClient(run_dir) as client:
        foreground = Foreground(
            client, screen, signals, keyboard, background=background, password_stdin=password_stdin
        )
        status = foreground.run(request)
    ctx.exit(status)


def _read_ca(path: str) -> str:
    """The file's text; the service gets bytes, never a path to open with its own rights."""
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_CA + 1).decode("ascii")
        if len(text) <= MAX_CA and "-----BEGIN CERTIFICATE-----" in text:
            return text
    except (OSError, UnicodeDecodeError):
        pass
    raise ProblemError(
        Problem(
            code="bad-ca",
            summary=f"{path} cannot be read, or holds no PEM certificates.",
            fix="Give the CA's certificate in PEM: it begins with -----BEGIN CERTIFICATE-----.",
        )
    )
