from .compiled import CompiledModel as CompiledModel
from .compiled import signature as signature
from .diagnostics import diagnose as diagnose
from .diagnostics import summary_table as summary_table
from .diagnostics import worst as worst
from .sampling import sample as sample
from .sampling import sample_errors as sample_errors
from .sampling import sampler_settings as sampler_settings
