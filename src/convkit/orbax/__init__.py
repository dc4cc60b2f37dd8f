"""What only Orbax has: migration between its two APIs, and what loads what."""
