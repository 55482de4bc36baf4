"""Plays the client service for one DNS driver: `python -m tests.e2e.client_dns.agent WISH JOURNAL`.

Reads commands, a line each: apply (journal first), verify, revert, close, probe. Answers each with a line of
JSON. `--restore JOURNAL` instead undoes what a journal tells, as `lockgate client reset` does.
"""

# ruff: noqa: ASYNC240 - nothing else runs meanwhile
from __future__ import annotations

import asyncio
import json
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from lockgate.client.linux import dns
from lockgate.model.problem import ProblemError


async def main(wish: dns.DnsWish, journal: Path) -> None:
    previous = json.loads(journal.read_text())["dns"] if journal.exists() else None
    driver = await dns.choose_driver(previous)
    print(json.dumps({"answer": "ready", "result": driver.name}), flush=True)
    while command := (await asyncio.to_thread(sys.stdin.readline)).strip():
        result: Any
        try:
            match command:
                case "apply":
                    saved = await driver.saved(wish)
                    journal.write_text(json.dumps({"dns": saved}))
                    await driver.apply(wish)
                    result = True
                case "verify":
                    result = await driver.verify(wish)
                case "revert":
                    await driver.revert(json.loads(journal.read_text())["dns"])
                    journal.unlink()
                    result = True
                case "probe":
                    found = await dns.probe(wish.servers, 1.0, interface=wish.interface)
                    result = [each.health.value for each in found]
                case _:
                    await driver.close()
                    result = True
        except ProblemError as error:
            print(error, file=sys.stderr)
            result = error.problem.code
        print(json.dumps({"answer": command, "result": result}), flush=True)
    await driver.close()


def _wish(text: str) -> dns.DnsWish:
    told = json.loads(text)
    servers = tuple(map(ip_address, told["servers"]))
    return dns.DnsWish(servers, tuple(told["domains"]), told["split"], told["interface"], told["ifindex"])


if __name__ == "__main__":
    if sys.argv[1] == "--restore":
        print("\n".join(dns.restore(json.loads(Path(sys.argv[2]).read_text())["dns"])))
    else:
        asyncio.run(main(_wish(sys.argv[1]), Path(sys.argv[2])))
