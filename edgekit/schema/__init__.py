"""The documents that edgekit reads and writes, as pydantic models and plain dataclasses."""
