from .sections import report as report
