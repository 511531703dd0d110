"""Shapes in annotations: ``Float[Tensor, "*batch n n"]`` is a ``Tensor`` at run time and for type checkers.

The tests put jaxtyping's types of the same names in place and check the calls (``tests/shapes.py``); nothing else
needs them. The name says what the array holds (``Num``: any number), the string its axes: ``*batch`` stands for any
number of axes, ``...`` for axes that need not agree with anything. A string that could be an expression begins with a
space.
"""

from typing import Annotated as Bool
from typing import Annotated as Float
from typing import Annotated as Int
from typing import Annotated as Num

__all__ = ["Bool", "Float", "Int", "Num"]
