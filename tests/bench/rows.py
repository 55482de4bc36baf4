"""The names of the peers, in the order they are shown."""

from __future__ import annotations

RAW = "raw veth"
OWN_GCM = "Lockgate, ESP-GCM"
OWN_CBC = "Lockgate, ESP-CBC SHA-1"
OWN_TLS = "Lockgate, TLS"
OC_256 = "Lockgate + openconnect, ESP AES-256 SHA-256"
OC_128 = "Lockgate + openconnect, ESP AES-128 SHA-1"
OC_TLS = "Lockgate + openconnect, TLS"
WIREGUARD = "wireguard-go, current"
WIREGUARD_OLD = "wireguard-go, packaged"
OPENVPN = "openvpn, UDP AES-256-GCM"
OCSERV_DTLS = "ocserv + openconnect, DTLS"
OCSERV_TLS = "ocserv + openconnect, TLS"
PROTOTYPE_GCM = "prototype, AES-128-GCM"
PROTOTYPE_CBC = "prototype, AES-128-CBC SHA-1"

ORDER = (
    RAW,
    OWN_GCM,
    OWN_CBC,
    OWN_TLS,
    WIREGUARD,
    WIREGUARD_OLD,
    OPENVPN,
    OCSERV_DTLS,
    OCSERV_TLS,
    PROTOTYPE_GCM,
    PROTOTYPE_CBC,
    OC_256,
    OC_128,
    OC_TLS,
)
OURS = (OWN_GCM, OWN_CBC, OWN_TLS)
SAME_CLIENT = {OC_256: OCSERV_DTLS, OC_128: OCSERV_DTLS, OC_TLS: OCSERV_TLS}
"""Row of our gateway with openconnect → row of ocserv with the same client in the same mode."""
