"""What every layer stands on: errors, files, registries, child processes. Nothing of the domain."""
