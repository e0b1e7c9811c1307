"""Tables for the terminal and for HTML."""
