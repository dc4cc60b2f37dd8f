"""Files on disk: staging, syncing and publishing them, configs, and receipts."""
