"""What Alembic executes to change tables; see `fededge.fleet.registry.migrations.upgrade`."""

from alembic import context

from fededge.fleet.registry.migrations import CONNECTION
from fededge.fleet.registry.tables import metadata

context.configure(connection=context.config.attributes[CONNECTION], target_metadata=metadata)
context.run_migrations()
