"""The ingest: accepts recordings at the door."""
