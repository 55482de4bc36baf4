"""What survives a restart, behind small interfaces.

`interface`       the records and what can be asked of them; all that others import, with `open_store`
`database`        SQLite on a thread of its own: reads, writes, who else wrote
`tables`          the schema; `migrations/` makes it, `migrate` runs them
`users`, `administrators`, `sessions`, `cookies`, `leases`, `audit`   the statements

Every write is committed before its coroutine returns. Several processes may have the
same database open: the server and the `lockgate` command beside it.
"""

from lockgate.server.store.interface import Store
from lockgate.server.store.open import create_store, open_store

__all__ = ["Store", "create_store", "open_store"]
