"""The dashboard: `python -m app`."""
