"""A time step as data: the program, how a step is traced, and what scan refuses.

Imports tensor/ and what stands to its left.
"""
