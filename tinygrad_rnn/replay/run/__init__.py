"""Running what was compiled: memory, the loop with what is done around it, forward and backward.

Imports emit/ and what stands to its left.
"""
