"""Which calls of the Orbax APIs load a checkpoint: predicted from its files, and tried in the real Orbax."""
