"""Entry point that alembic looks for: runs the migrations on the caller's connection."""

from alembic import context

from lockgate.server.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes tables by rebuilding them
)
with context.begin_transaction():
    context.run_migrations()
