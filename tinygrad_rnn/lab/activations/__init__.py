"""What units and gates do over a sequence."""
