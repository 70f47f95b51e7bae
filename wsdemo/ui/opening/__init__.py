"""What every tab opens on: results of its own handlers, recorded by a command and shipped."""
