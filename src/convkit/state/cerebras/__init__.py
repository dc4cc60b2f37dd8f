"""What Cerebras says of a training's state."""
