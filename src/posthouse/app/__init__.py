"""The composition root: the only place that joins adapters (clients, storage) to the flow.

`serve` is the supervisor's start; `python -m posthouse.app worker|console` are its children (see `node.py`).
"""
