"""Reads hostile mail in a process of its own: `python -m posthouse.examiner`, started by `clients.examiner`.

It imports `core` and what confines it, and holds nothing between two mails.
"""
