"""The sources, one file a source."""
