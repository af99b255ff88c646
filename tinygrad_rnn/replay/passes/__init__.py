"""From a step's program to its planned loop, a short file for each pass.

Programs become programs: gradient, lower (into the operations of plain.py), simplify. Then the
lines are sorted (split), scheduled (fuse), laid out (layout, with views as strides) and made steps
on arrays (plan, kernel_lines), with states in place. Each pass says by ``@verified`` what must hold
of what it gives. Imports program/ and what stands to its left.
"""
