"""The database: connection, tables, migrations. Only the API process opens it."""
