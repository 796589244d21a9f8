"""An email security gateway: receives, scans and relays mail, and loses none."""

__version__ = "0.1.0"
