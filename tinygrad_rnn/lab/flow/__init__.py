"""Where a gradient goes in time. Read followed.py first."""
