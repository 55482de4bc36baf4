"""The tunnel configurations used in transcripts, by name."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from lockgate.protocol.pulse.config import EspCipher, EspHmac, EspOffer, TunnelConfig

_CAPTURED_NO_ESP = TunnelConfig(
    mtu=1400,
    address4=IPv4Address("10.88.0.10"),
    dns=(IPv4Address("10.77.0.53"),),
    wins=(IPv4Address("10.77.0.54"),),
    search_domains=("corp.test", "lab.test"),
    include=(IPv4Network("10.77.0.0/16"),),
    exclude=(IPv4Network("10.77.9.0/24"),),
    gateway4=IPv4Address("10.200.200.200"),
)
_ESP = EspOffer(EspCipher.AES256_CBC, EspHmac.SHA256, port=4500)

CONFIGURATIONS = {
    "captured without ESP": _CAPTURED_NO_ESP,
    "captured": TunnelConfig(
        mtu=_CAPTURED_NO_ESP.mtu,
        address4=_CAPTURED_NO_ESP.address4,
        dns=_CAPTURED_NO_ESP.dns,
        wins=_CAPTURED_NO_ESP.wins,
        search_domains=_CAPTURED_NO_ESP.search_domains,
        include=_CAPTURED_NO_ESP.include,
        exclude=_CAPTURED_NO_ESP.exclude,
        gateway4=_CAPTURED_NO_ESP.gateway4,
        esp=_ESP,
    ),
    "both families": TunnelConfig(
        mtu=1400,
        address4=IPv4Address("10.88.0.10"),
        address6=IPv6Interface("fd88::a/128"),
        dns=(IPv6Address("fd77::53"), IPv4Address("10.77.0.53")),
        search_domains=("corp.test",),
        include=(IPv4Network("10.77.0.0/16"), IPv6Network("fd77::/64")),
        exclude=(IPv4Network("10.77.9.9/32"), IPv6Network("fd77::9/128")),
        esp=_ESP,
    ),
    "only IPv6": TunnelConfig(mtu=1280, address6=IPv6Interface("fd88::a/64"), dns=(IPv6Address("fd77::53"),)),
    "every extension": TunnelConfig(
        mtu=1400,
        address4=IPv4Address("10.88.0.10"),
        address6=IPv6Interface("fd88::a/128"),
        dns=(IPv4Address("10.77.0.53"),),
        esp=EspOffer(EspCipher.AES256_GCM, EspHmac.NONE, port=4500, cross_family=True),
        disconnect_on_route_change=True,
        tunnel_routes_first=True,
        local_subnet_access=True,
        enforce4=True,
        enforce6=True,
        extended=True,
        reminder=600,
        password_caching=True,
        proxy="proxy.corp.test:3128",
        pac_script=b"function FindProxyForURL(url, host) { return 'DIRECT'; }",
        pac_url="http://proxy.corp.test/proxy.pac",
    ),
}
