"""The disk: staged, synced, published, and vouched for by a receipt."""
