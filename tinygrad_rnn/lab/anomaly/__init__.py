"""Where a number that is not finite comes from. Read detector.py first."""
