"""The `scapp` command: `main` (the group), one module per family of commands, all clients of the local API."""
