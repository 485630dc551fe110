"""Fixtures of the dashboard's tests."""

from browser import chromium, visit
from served_run import guarded, run_folder, site

__all__ = ["chromium", "guarded", "run_folder", "site", "visit"]
