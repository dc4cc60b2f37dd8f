"""From one release of ModelZoo to another: tensors, training state and yamls of every family, up and down."""
