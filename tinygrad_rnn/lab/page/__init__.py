"""A page to be opened in a browser: the tape with its values and cotangents, a step as it is
compiled.
"""

from tinygrad_rnn.lab.page.html import to_html

__all__ = ["to_html"]
