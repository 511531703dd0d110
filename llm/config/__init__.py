"""Every setting, as a field of a frozen dataclass that carries its help. Imports no torch.

The options of the command line, the keys of a TOML file, ``nashward config`` and the table of the documentation are
made from these fields: see ``fields.leaves``.
"""

from .endpoint import Endpoint as Endpoint
from .endpoint import JudgeSettings as JudgeSettings
from .fit import Fit as Fit
from .inputs import Inputs as Inputs
from .inputs import Opponents as Opponents
from .limits import DiagnosisLimits as DiagnosisLimits
from .limits import Limits as Limits
from .lora import Lora as Lora
from .oracle_fit import FitSettings as FitSettings
from .people import Asking as Asking
from .people import People as People
from .phase import Phase as Phase
from .placement import Placement as Placement
from .plan import Demand as Demand
from .plan import Rates as Rates
from .run import RunConfig as RunConfig
from .sampling import Sampling as Sampling
