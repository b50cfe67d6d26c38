from .lowering import Lowering as Lowering
from .lowering import NotLoweredError as NotLoweredError
from .store import Densities as Densities
from .tape import Tape as Tape
from .whitening import Whitening as Whitening
