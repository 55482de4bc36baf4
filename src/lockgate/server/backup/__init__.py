"""Backup of everything a gateway is in one file, and the way back.

`make`         what goes into it, with the server running or stopped
`restore`      a new data directory beside the old one, then the exchange
`contents`     the lines inside: files, tables, rows
`sealed_file`  encryption under a passphrase
`schema`       the place of restored tables in PostgreSQL
`account`      root's part and the owner's part of a command

Either store can be restored into the other.
"""

from lockgate.server.backup.make import Made, make_backup
from lockgate.server.backup.restore import SQLITE, Restored, fill, forget, locked, put_in_place, staged

__all__ = [
    "SQLITE",
    "Made",
    "Restored",
    "fill",
    "forget",
    "locked",
    "make_backup",
    "put_in_place",
    "staged",
]
