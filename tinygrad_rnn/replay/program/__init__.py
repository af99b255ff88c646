"""A time step as data: the program, how a step is traced, what scan refuses, and the planned loop;
and what must hold of both.

Imports tensor/ and what stands to its left.
"""
