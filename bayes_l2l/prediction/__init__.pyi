from .forecasts import Forecast as Forecast
from .optimum import optimal_params as optimal_params
from .optimum import optimal_points as optimal_points
from .optimum import optimal_sizes as optimal_sizes
from .outliers import outlying as outlying
from .translations import Translation as Translation
from .translations import translate as translate
