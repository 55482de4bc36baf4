"""The machine's name resolution while a tunnel is up.

A `DnsWish` says what the tunnel wants: all names through the tunnel's servers, or with split only the corporate
domains' (`wish`). `choose_driver` finds out what the machine has and gives a `Driver`: systemd-resolved
(`resolved`), a resolvconf program (`resolvconf`) or the file (`plain_file`). Where the resolver cannot divide
names, the driver runs a `Forwarder`, whose decisions are in `forwarding`. `restore` undoes any of it with
nothing running; `probe` tells whether servers answer.

    driver = await choose_driver(journal.get("dns"))
    journal["dns"] = await driver.saved(wish)       # before anything changes
    await driver.apply(wish)
    if not await driver.verify(wish):               # now and then, and when the network changed
        journal["dns"] = await driver.saved(wish)   # somebody's new content is the one to give back
        await driver.apply(wish)
    await driver.revert(journal.pop("dns"))

Apply when the tunnel's device is up and has its addresses. No answer is cached here. With split and no
corporate domain all names go through the tunnel.
"""

from lockgate.client.linux.dns.choose import choose_driver, restore
from lockgate.client.linux.dns.driver import Driver, Saved
from lockgate.client.linux.dns.probe import Health, ServerHealth, probe
from lockgate.client.linux.dns.wish import Address, DnsWish, usable_domains, usable_servers

__all__ = [
    "Address",
    "DnsWish",
    "Driver",
    "Health",
    "Saved",
    "ServerHealth",
    "choose_driver",
    "probe",
    "restore",
    "usable_domains",
    "usable_servers",
]
