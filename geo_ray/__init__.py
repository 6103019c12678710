"""Planet-scale image geolocalization on Ray."""

__version__ = "0.1.0"
