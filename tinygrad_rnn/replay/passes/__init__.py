"""Each pass is a short file from program to program: gradient, lower, simplify, split.

Then the loop is scheduled (fuse) and laid out (plan), with views as strides and states in place.
Imports program/ and what stands to its left.
"""
