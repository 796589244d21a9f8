"""MIME as it is sent, well-formed or not: a part tree over octet spans, its readings, and mail surgery."""
