"""The indexer: makes passages searchable."""
