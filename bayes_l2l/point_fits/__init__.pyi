from .point_fit import PointLaw as PointLaw
from .point_fit import fit_point as fit_point
from .resampling import CellFit as CellFit
from .resampling import resampled_fits as resampled_fits
from .wild_runs import without_wild_runs as without_wild_runs
