"""Model files loaded in their real runtimes, behind one `Session`."""
