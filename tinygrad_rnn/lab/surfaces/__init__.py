"""The loss on a line or a plane through the space of parameters."""
