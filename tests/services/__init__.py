"""One party or several in one process: engine, daemon, tasks, tables, commands; `house` and `mesh` make them."""
