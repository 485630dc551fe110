"""The EM engine shared by every classification and refinement. Knows no files."""
