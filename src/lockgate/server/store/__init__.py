"""What survives a restart, behind small interfaces.

`interface`, `records`   what can be asked, and the records; all that others import, with `open_store`
`choice`                 which database: SQLite in the data directory, or PostgreSQL
`database`               a database on a thread of its own; `sqlite` and `postgresql` are the two kinds
`tables`                 the schema; `migrations/` makes it, `migrate` runs them
`chain`, `verify`        what holds the records of the audit together, and who looks whether it does
the others               the statements

Every write is committed before its coroutine returns. Several processes may have the same database
open: the server and the `lockgate` command beside it, or several gateways over one PostgreSQL.
"""

from lockgate.server.store.interface import Store
from lockgate.server.store.open import create_store, open_store

__all__ = ["Store", "create_store", "open_store"]
