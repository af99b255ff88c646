"""What goes on in a network while it is trained."""
