"""Shared by all tests: shapes in the kernels' signatures are checked while tests run."""

from jaxtyping import install_import_hook

install_import_hook("firn.kernels", "shape_checker.check")
