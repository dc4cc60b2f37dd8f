"""What Pax says of a train state's structure."""
