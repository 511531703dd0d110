"""Pictures that a paper would print. Each function draws on the ``axes`` given, or on a figure of its own, and returns
the figure; nothing is shown or saved. Lines differ in style or mark as well as in colour, so that grey will do.
"""

from .appearance import COLOURS as COLOURS
from .appearance import MARKS as MARKS
from .appearance import STYLES as STYLES
from .appearance import Look as Look
from .appearance import as_label as as_label
from .appearance import looks as looks
from .appearance import save as save
from .appearance import some_of as some_of
from .curves import FLOOR as FLOOR
from .curves import gap_curves as gap_curves
from .curves import quantiles as quantiles
from .curves import race as race
from .curves import stability_map as stability_map
from .payoffs import cycle_graph as cycle_graph
from .payoffs import payoff_table as payoff_table
from .trajectories import simplex as simplex
from .trajectories import trajectories as trajectories
