"""What formats share whose tensors lie uncompressed in files."""
