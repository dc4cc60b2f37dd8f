"""Non-tensor state: tree specs, loader state, flax msgpack, Pax metadata."""
