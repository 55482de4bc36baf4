"""What settings are called on a page: made from their keys, except where the guides have a name of their own."""

from __future__ import annotations

import re

UNITS = {
    "seconds": "seconds",
    "days": "days",
    "kib": "KiB",
    "kbit": "kbit/s",
    "megabytes": "MB",
}

_WRITTEN = """
ESP TLS SSL MTU DNS CA PAC URL URLs UI VPN IP IPv4 IPv6 FIPS PIN SSID GUID ID HMAC EAP FIDO2 TUN UDP TCP Argon2 CAs
"""
_ACRONYMS = {word.lower(): word for word in _WRITTEN.split()}

_NAMES = {
    "ClientProxy.server": "Server",
    "Metrics.sources": "Networks",
    "MachineSettings.always_on": "Always-on client",
    "MachineSettings.captive_portal_detection": "Captive-portal detection",
    "MachineSettings.dynamic_connection": "Dynamic connections",
    "MachineSettings.dynamic_trust": "Dynamic certificate trust",
    "MachineSettings.embedded_browser_auth": "Embedded browser for authentication",
    "MachineSettings.embedded_browser_captive_portal": "Embedded browser for captive portals",
    "MachineSettings.fido2": "FIDO2 U2F for SAML",
    "MachineSettings.prevent_caching_pin": "Prevent caching the PIN",
    "MachineSettings.splashscreen_display": "Display the splash screen",
    "MachineSettings.vpn_only_access": "VPN-only access",
    "ClientConnection.lock_down": "Locked-down connection",
    "ClientConnection.use_for_connect": "Connect to this server for VPN",
    "ClientConnection.non_broadcast_ssid": "Hidden networks too",
    "ExpressionCondition.text": "Expression",
    "Esp.own_cipher": "Cipher for Lockgate's client",
    "Esp.rekey_seconds": "Replace keys after",
    "Esp.fallback_seconds": "Fall back after",
    "Guard.lock_seconds": "First lock",
    "Guard.lock_seconds_max": "Longest lock",
    "Guard.slow_seconds": "Pause when slowed down",
    "SessionLimits.max_sessions_per_user": "Max. sessions per user",
    "SessionLimits.max_users": "Max. users",
    "SignInPolicy.pre_notification": "Notification before signing in",
    "SignInPolicy.post_notification": "Notification after signing in",
    "SignInPolicy.url": "Sign-in URL",
    "Limits.sign_in_seconds": "Time to sign in",
    "AccessControl.to": "Destinations",
    "AppliesTo.to": "Policy applies to",
    "SyslogTarget.events": "Events log",
    "SyslogTarget.flows": "Flows log",
    "SyslogTarget.user_access": "User access log",
    "SyslogTarget.admin_access": "Admin access log",
    "admin_listen": "Administrators' listener",
    "admin_realms": "Administrator realms",
    "applies": "Policy applies to",
    "client_certificate_location_system": "Client certificates in the machine's store",
    "directory": "Directory server",
    "down_kbit": "To the client",
    "up_kbit": "From the client",
    "guid": "Identity",
    "idle_seconds": "Idle time-out",
    "heartbeat_timeout_seconds": "Heartbeat time-out",
    "length_seconds": "Max. session length",
    "allow_extension": "Allow users to extend their sessions",
    "extension_limit_seconds": "Extension limit",
    "hostname": "Host name",
    "keep_megabytes": "Keep at most",
    "keep_total_megabytes": "Room for all uploads",
    "max_megabytes": "Largest upload",
    "keep_days": "Keep for",
    "flows": "Flow records",
    "flows_keep_days": "Keep flow records for",
    "flows_keep_megabytes": "Keep flow records at most",
    "decisions_days": "Keep decisions for",
    "pools": "Address pools",
    "server": "Authentication server",
    "stop": "Stop processing rules",
    "user_record_synchronization": "Enable User Record Synchronization",
    "logical_auth_server_name": "Logical Auth Server Name",
    "own_bookmarks": "Users may add bookmarks",
    "upload_logs": "Enable Upload Logs",
    "user_connection": "Allow user connections",
    "vpn_tunneling": "VPN Tunneling",
    "when_several": "When several roles are assigned",
    "allow_save": "Allow saving logon information",
}

_HEADINGS = {
    "ui": "UI options",
    "web_options": "Web",
    "vpn": "VPN tunneling options",
    "policy": "Authentication policy",
    "source": "Source IP",
    "guard": "Protection against guessing",
    "argon2": "Password hashes (Argon2id)",
    "session": "Session options",
}

_KINDS = {
    "user": "User name",
    "group": "Group membership",
    "attribute": "User attribute",
    "certificate": "Certificate attribute",
    "expression": "Custom expression",
    "local": "Local authentication",
}


def label(key: str, section: str = "") -> str:
    """The name of a setting of the section with that model."""
    return (
        _NAMES.get(f"{section}.{key}")
        or _NAMES.get(key)
        or _words(re.sub(r"_(seconds|days|kib|kbit|megabytes)$", "", key))
    )


def heading(key: str) -> str:
    """The name of a group of settings."""
    return _HEADINGS.get(key) or label(key)


def kind(value: str) -> str:
    """What one kind of several is called."""
    return _KINDS.get(value) or option(value)


def option(value: str) -> str:
    """One of the values of a choice, as a person reads it."""
    if not re.fullmatch(r"[a-z][a-z-]*", value):
        return value
    return _words(value.replace("-", "_"))


def unit(key: str) -> str:
    """The unit that a key ends with; empty without one."""
    ending = key.rpartition("_")[2]
    return UNITS.get(ending, "") if "_" in key else ""


def _words(key: str) -> str:
    words = [_ACRONYMS.get(word, word) for word in key.split("_")]
    first = words[0] if words[0] in _ACRONYMS.values() else words[0].capitalize()
    return " ".join([first, *words[1:]])
