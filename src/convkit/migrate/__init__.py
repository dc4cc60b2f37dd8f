"""Keep tensors but change their container or state: migrate between Orbax's two APIs, repair `.mdl` files."""
