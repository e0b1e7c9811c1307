"""What runtimes make of a file's operators: which they fuse, and which they add."""
