"""Fixtures of the dashboard's tests."""

from served_run import guarded, run_folder, site

__all__ = ["guarded", "run_folder", "site"]
