"""Op compatibility, memory plan and cost model."""
