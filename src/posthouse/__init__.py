"""posthouse: an email security gateway that loses no mail."""

__version__ = "0.1.0"
