"""The same tensors in a new container or with another state: Orbax's two APIs, repairs of `.mdl` files."""
