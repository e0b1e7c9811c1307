"""Where a session runs and how it is measured."""
