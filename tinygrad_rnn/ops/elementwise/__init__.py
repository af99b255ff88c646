"""Operations on each element by itself: forward, kernel expression and gradient rules in one place.

An operation is written as the function that it is to a user, with its mathematics in a decorator:
see declaration.py, then arithmetic.py.
"""
