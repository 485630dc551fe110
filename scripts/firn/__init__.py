"""firn: cryo-EM movies to 3D maps, while the microscope is still collecting."""

__version__ = "0.1.0"
