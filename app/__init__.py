"""The dashboard: `python -m app` from a clone, `adadpo-mini app` from an installed package."""
