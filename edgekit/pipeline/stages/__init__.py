"""The stages of a run, one file for each group."""
