"""The file of the first start: one model, one file, and errors that say where, what and what is allowed."""

import tomllib
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from lockgate.model.problem import ProblemError
from lockgate.server.config.seed.access import access_rules, reserved_networks
from lockgate.server.config.seed.load import check_bytes, check_file, parse_configuration, read_file
from lockgate.server.config.seed.render import render
from lockgate.server.config.seed.tree import Seed
from lockgate.server.config.tree.system import Gateway
from lockgate.server.config.values import parse_endpoint, parse_host_name, parse_network

SMALLEST = '[gateway]\nhostname = "gw.example.org"\n'


def judged(text):
    return check_bytes(text.encode(), "c.toml")


def settings(model=Seed, path=()):
    """Every setting of the tree with its path."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from settings(inner, (*path, name))
        else:
            yield (*path, name), field


def test_one_name_is_enough():
    checked = judged(SMALLEST)
    assert checked.errors == checked.warnings == ()
    assert checked.configuration == Seed(gateway=Gateway(hostname="gw.example.org"))


def test_the_default_file_reads_back_as_the_default_tree():
    tree = judged(SMALLEST).configuration
    assert judged(render(tree)).configuration == tree


def test_a_file_with_everything_reads_back():
    text = """
        gateway = { hostname = "GW.example.org.", listen = ["192.0.2.1:443", "[2001:db8::1]:8443"], tls_minimum = "1.3" }
        esp = { enabled = false, port = 4501, cipher = "aes-128-cbc", hmac = "sha1", own_cipher = "off" }
        [network]
        pools = ["10.88.0.0/16", "fd00:88::/64"]
        dns = ["10.77.0.53", "fd00:77::53"]
        search_domains = ["corp.example"]
        split_include = ["10.77.0.0/16", "fd00:77::/64"]
        split_exclude = ["10.77.5.0/24"]
        [sign_in]
        notice = "Line one.\\nA \\"quote\\", a tab \\t, a DEL \\u007f, an emoji 🔑."
        guard.lock_seconds = 30
        [[access]]
        name = "web"
        action = "allow"
        to = ["10.77.0.0/16"]
        protocol = "tcp"
        ports = [443, "8000-8100"]
        [[access]]
        name = "gre"
        action = "deny"
        to = ["10.77.0.0/16"]
        protocol = 47
    """
    tree = judged(text).configuration
    assert tree is not None
    assert tree.gateway.hostname == "gw.example.org"
    assert judged(render(tree)).configuration == tree


@pytest.mark.parametrize("commented", [False, True])
def test_every_setting_of_the_default_file_is_one(commented):
    """Uncommenting a line of the file gives its default: the comments tell the truth."""
    tree = judged(SMALLEST).configuration
    text = render(tree)
    if commented:
        before, _, after = text.partition("# [[access]]\n")
        example, _, after = after.partition("\n\n")
        text = before + "\n".join(line for line in after.splitlines())
        text = "\n".join(
            line[2:] if line.startswith("# ") and " = " in line and "config check" not in line else line
            for line in text.splitlines()
        )
        assert judged(text).configuration == tree
        names = {path[-1] for path, _ in settings()} - {"access"}
        assert names == {line.split(" = ")[0] for line in text.splitlines() if " = " in line}
    else:
        example = text.partition("# [[access]]\n")[2].partition("\n\n")[0]
        text += "\n[[access]]\n" + "\n".join(line.removeprefix("# ") for line in example.splitlines())
        checked = judged(text)
        assert checked.errors == ()
        assert [rule.name for rule in checked.configuration.access] == ["intranet web"]


def test_every_setting_says_what_it_means_and_what_is_allowed():
    for path, field in settings():
        assert field.description, path
        assert field.json_schema_extra["allowed"], path


def test_the_tree_does_not_change():
    tree = judged(SMALLEST).configuration
    with pytest.raises(ValueError, match="frozen"):
        tree.network.mtu = 1300


WRONG = [
    # text after [gateway] hostname (line 2), line, key, words of the error
    ("host_name = 1", 3, "gateway.host_name", "not a known key; did you mean hostname?"),
    ("listen = []", 3, "gateway.listen", "0 entries"),
    ('listen = "0.0.0.0:443"', 3, "gateway.listen", "not a list"),
    ('listen = ["0.0.0.0:443",\n\n"::1"]', 5, "gateway.listen[1]", "names no port; write [::1]:443"),
    ('listen = ["192.0.2.1"]', 3, "gateway.listen[0]", "names no port; write 192.0.2.1:443"),
    ('listen = ["gw:443"]', 3, "gateway.listen[0]", "'gw' is not an IP address"),
    ('listen = ["0.0.0.0:0"]', 3, "gateway.listen[0]", "not a port"),
    ('listen = ["[192.0.2.1]:443"]', 3, "gateway.listen[0]", "brackets"),
    ('listen = ["[fe80::1%eth0]:443"]', 3, "gateway.listen[0]", "zone"),
    ('listen = ["192.0.2.1:443", "192.0.2.1:443"]', 3, "gateway.listen[1]", "taken already by 192.0.2.1:443"),
    ('listen = ["0.0.0.0:443", "192.0.2.1:443"]', 3, "gateway.listen[1]", "taken already by 0.0.0.0:443"),
    ('listen = ["0.0.0.0:8443"]\nadmin_listen = "127.0.0.1:8443"', 4, "gateway.admin_listen", "is where clients connect"),
    ("tls_minimum = 1.2", 3, "gateway.tls_minimum", '1.2 is not allowed; allowed: "1.2" or "1.3"'),
    ("[esp]\nenabled = 1", 4, "esp.enabled", "allowed: true or false"),
    ("[esp]\nport = 65536", 4, "esp.port", "from 1 to 65535"),
    ('[esp]\nport = "4500"', 4, "esp.port", '"4500" is not allowed'),
    ('[esp]\nown_cipher = "aes-128-cbc"', 4, "esp.own_cipher", '"aes-128-gcm", "aes-256-gcm" or "off"'),
    ('[network]\nroute_precedence = "client"', 4, "network.route_precedence", '"tunnel" or "endpoint"'),
    ("[network]\nroute_monitor = 1", 4, "network.route_monitor", "true or false"),
    ("[netwrok]", 3, "netwrok", "did you mean network?"),
    ("[network]\nmtu = 575", 4, "network.mtu", "from 576 to 9000"),
    ('[network]\nmtu = 1279\npools = ["fd00::/64"]', 4, "network.mtu", "too small for IPv6"),
    ("[network]\npools = []", 4, "network.pools", "0 entries"),
    ('[network]\npools = ["10.0.0.1/8"]', 4, "network.pools[0]", "not in canonical form; this network is written 10.0.0.0/8"),
    ('[network]\npools = ["FD00::/64"]', 4, "network.pools[0]", "written fd00::/64"),
    ('[network]\npools = ["10.0.0.0/31"]', 4, "network.pools[0]", "no room for a client"),
    ('[network]\npools = ["fd00::/127"]', 4, "network.pools[0]", "no room for a client"),
    ('[network]\npools = ["127.0.0.0/8"]', 4, "network.pools[0]", "not a network for hosts"),
    ('[network]\npools = ["10.0.0.0/8",\n"10.88.0.0/16"]', 5, "network.pools[1]", "overlaps the pool 10.0.0.0/8"),
    ('[network]\nsplit_exclude = ["10.88.1.0/24"]', 3, "network.pools[0]", "overlaps 10.88.1.0/24 of split_exclude"),
    ('[network]\nsplit_include = ["10.1.0.0/16", "10.1.0.0/16"]', 4, "network.split_include[1]", "twice"),
    ('[network]\ndns = ["10.1.0.1", "10.1.0.1"]', 4, "network.dns[1]", "twice"),
    ('[network]\ndns = ["dns.example"]', 4, "network.dns[0]", "not an IP address"),
    ('[network]\nsearch_domains = ["a b"]', 4, "network.search_domains[0]", "not a DNS name"),
    ('[network]\nsearch_domains = ["müller.example"]', 4, "network.search_domains[0]", "xn--"),
    ('[network]\ntun_name = "sixteen-letters-"', 4, "network.tun_name", "not an interface name"),
    ("[sessions]\nlength_seconds = 0", 4, "sessions.length_seconds", "from 5 to"),
    ("[sign_in]\nargon2 = 3", 4, "sign_in.argon2", "not a table"),
    ("[sign_in.argon2]\nmemory_kib = 64\nparallelism = 9", 4, "sign_in.argon2.memory_kib", "9 lanes"),
    ("[sign_in.guard]\nlock_seconds_max = 59", 4, "sign_in.guard.lock_seconds_max", "less than lock_seconds"),
    ("[[access]]", 3, "access[0].name", "is missing"),
    ('[[access]]\nname = "a"\naction = "permit"\nto = ["::/0"]', 5, "access[0].action", '"permit" is not allowed'),
    ('[[access]]\nname = "a"\naction = "deny"\nto = []', 6, "access[0].to", "0 entries"),
    ('[[access]]\nname = "a"\naction = "deny"\nto = ["::/0"]\nports = [1]', 7, "access[0].ports", "no ports to check"),
    ('[[access]]\nname = "a"\naction = "deny"\nto = ["::/0"]\nprotocol = 256', 7, "access[0].protocol", "256"),
    ('[[access]]\nname = "a"\naction = "deny"\nto = ["::/0"]\nprotocol = "tcp"\nports = ["9-1"]', 8, "access[0].ports[0]", "ends before"),
    ('[[access]]\nname = "a"\naction = "deny"\nto = ["10.0.0.0/8"]\n' * 2, 8, "access[1].name", "earlier rule"),
    ('[log]\nlevel = "loud"', 4, "log.level", '"loud" is not allowed'),
    ("hostname = 1", 3, "", "Cannot overwrite a value"),
    ("[esp", 3, "", "not TOML"),
    ("x = [", 3, "", "not TOML"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "key", "words"), WRONG)
def test_error(text, line, key, words):
    checked = judged(SMALLEST + text)
    assert checked.configuration is None
    shown = [str(error) for error in checked.errors]
    assert any((error.line, error.key) == (line, key) for error in checked.errors), shown
    assert any(words in text for text in shown), shown
    assert all(error.allowed for error in checked.errors), shown


def test_all_errors_are_listed_at_once_in_the_order_of_the_file():
    checked = judged('[network]\nmtu = 1\npools = ["x"]\n[gateway]\nlisten = [1]\n')
    assert [(error.line, error.key) for error in checked.errors] == [
        (2, "network.mtu"),
        (3, "network.pools[0]"),
        (4, "gateway.hostname"),
        (5, "gateway.listen[0]"),
    ]


WARNINGS = [
    (
        '[network]\ndns = ["9.9.9.9"]\nsplit_include = ["10.77.0.0/16"]',
        "network.dns[0]",
        "outside split_include",
    ),
    (
        '[network]\ndns = ["9.9.9.9"]\n[[access]]\nname = "a"\naction = "allow"\nto = ["10.0.0.0/8"]',
        "network.dns[0]",
        "no access rule",
    ),
    ('[network]\ndns = ["10.88.0.1"]', "network.dns[0]", "no access rule"),
    ('[network]\nsplit_include = ["fd00::/64"]', "network.split_include[0]", "no IPv6 pool"),
    ('[[access]]\nname = "a"\naction = "deny"\nto = ["::/0"]', "access[0].to[0]", "no IPv6 pool"),
    ("[sessions]\nidle_seconds = 99\nlength_seconds = 99", "sessions.idle_seconds", "no effect"),
    (
        '[network]\nlocal_subnet_access = true\nsplit_include = ["10.77.0.0/16"]',
        "network.local_subnet_access",
        "outside the tunnel anyway",
    ),
    (
        '[network]\nlocal_subnet_access = true\nroute_precedence = "endpoint"\ntraffic_enforcement = false',
        "network.local_subnet_access",
        "all local routes win",
    ),
    ('[network]\nroute_precedence = "endpoint"', "network.route_precedence", "traffic_enforcement drops"),
    ('[network]\ndns = ["9.9.9.1", "9.9.9.2", "9.9.9.3", "9.9.9.4"]', "network.dns[3]", "first 3"),
]


@pytest.mark.parametrize(("text", "key", "words"), WARNINGS)
def test_warning(text, key, words):
    checked = judged(SMALLEST + text)
    assert checked.errors == ()
    assert checked.configuration is not None
    assert [warning.key for warning in checked.warnings] == [key]
    assert words in checked.warnings[0].wrong


def test_local_subnet_access_with_everything_tunnelled_is_what_it_is_for():
    checked = judged(SMALLEST + "[network]\nlocal_subnet_access = true")
    assert checked.errors == checked.warnings == ()


def test_ipv4_routes_are_counted_together():
    def listed(third, count):
        return ", ".join(f'"10.{third}.{low}.0/24"' for low in range(count))

    def both(include, exclude):
        return judged(
            f"{SMALLEST}[network]\nsplit_include = [{listed(1, include)}]\nsplit_exclude = [{listed(2, exclude)}]"
        )

    assert both(200, 55).errors == ()
    (error,) = both(200, 56).errors
    assert (error.line, error.key) == (4, "network.split_include")
    assert "256 IPv4 networks" in error.wrong


def test_the_compiled_rules_fit_the_edge_link():
    ports = ", ".join(str(port) for port in range(1, 65))
    networks = ", ".join(f'"10.77.0.{low}/32"' for low in range(64))
    rule = (
        f'[[access]]\nname = "N"\naction = "allow"\nto = [{networks}]\nprotocol = "tcp"\nports = [{ports}]\n'
    )
    assert judged(SMALLEST + rule).errors == ()
    more = rule + '[[access]]\nname = "one more"\naction = "allow"\nto = ["10.0.0.0/8"]\n'
    (error,) = judged(SMALLEST + more).errors
    assert "4097" in error.wrong


def test_bytes_that_are_no_text_have_a_line():
    (error,) = check_bytes(b"# fine\n# \xff\n", "c.toml").errors
    assert (error.line, error.wrong) == (2, "this is not UTF-8")


def test_deep_nesting_is_an_error_and_no_crash():
    (error,) = judged("x = " + "[" * 100_000).errors
    assert "nested" in error.wrong


def test_a_giant_file_is_not_read_to_its_end(tmp_path):
    file = tmp_path / "c.toml"
    with file.open("wb") as opened:
        opened.truncate(1 << 40)
    (error,) = check_file(file).errors
    assert "too large" in error.wrong


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_are_judged(content):
    checked = check_bytes(content, "c.toml")
    assert checked.errors  # no hostname
    assert checked.configuration is None


junk = st.recursive(
    st.none().map(lambda _: "text")
    | st.integers()
    | st.booleans()
    | st.text(max_size=8)
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


def literal(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'
    return repr(value)


@given(
    st.dictionaries(
        st.sampled_from([".".join(path) for path, _ in settings()]), junk.filter(bool), max_size=6
    )
)
def test_any_value_is_taken_or_refused_with_its_key(values):
    text = "".join(
        f"{key} = {literal(value)}\n" for key, value in values.items() if "\ud800" not in str(value)
    )
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # a lone surrogate
    checked = judged(text)
    for error in checked.errors:
        assert error.line is None or 1 <= error.line <= len(values)
        assert error.allowed


def test_load_raises_one_problem_with_every_error(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("[network]\nmtu = 1\n")
    with pytest.raises(ProblemError) as caught:
        parse_configuration(read_file(file), file)
    assert caught.value.problem.code == "config-invalid"
    assert [detail.split(": ")[0] for detail in caught.value.problem.details] == [str(file), f"{file}:2"]


def test_a_missing_file_is_a_problem(tmp_path):
    with pytest.raises(ProblemError) as caught:
        read_file(tmp_path / "none.toml")
    assert caught.value.problem.code == "config-unreadable"


def test_reserved_networks_are_pools_and_named_listening_addresses():
    text = (
        '[gateway]\nhostname = "x"\nlisten = ["192.0.2.1:443", "[::]:443"]\nadmin_listen = "192.0.2.7:8443"\n'
        '[network]\npools = ["10.88.0.0/16"]\n'
    )
    networks = [str(network) for network in reserved_networks(judged(text).configuration)]
    assert networks == ["10.88.0.0/16", "192.0.2.1/32", "192.0.2.7/32"]


def test_without_rules_users_reach_the_split_networks_or_everything():
    everything = access_rules(judged(SMALLEST).configuration)
    assert [entry.rule.prefix for entry in everything.compiled] == [0, 0]
    split = access_rules(judged(SMALLEST + '[network]\nsplit_include = ["10.77.0.0/16"]').configuration)
    assert [entry.rule.address for entry in split.compiled] == [
        ip_network("10.77.0.0/16").network_address.packed
    ]


@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_endpoint_reads_back(address, port):
    shown = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    endpoint = parse_endpoint(shown)
    assert (endpoint.address, endpoint.port, str(endpoint)) == (address, port, shown)


@given(st.text(max_size=30))
def test_value_parsers_refuse_with_valueerror_only(text):
    for parse in (parse_endpoint, parse_network, parse_host_name):
        try:
            parse(text)
        except ValueError:
            continue
