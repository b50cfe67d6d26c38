from .likelihood import Discrepancy as Discrepancy
from .likelihood import LawLikelihood as LawLikelihood
from .likelihood import Likelihood as Likelihood
from .likelihood import RelationLikelihood as RelationLikelihood
from .likelihood import ResidualSpec as ResidualSpec
from .model import ModelSpec as ModelSpec
from .prior import DISTRIBUTIONS as DISTRIBUTIONS
from .prior import Prior as Prior
