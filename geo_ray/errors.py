"""The exception tree.

GeoRayError
    InputError            what the user gave can't be used: no input, an unreadable table, an unknown name
    OutputError           the output can't be written, or holds another run's results
    BundleError           a bundle is missing, damaged or of another version
    MissingDataError      a package that holds data isn't installed
    BuildError            a task of a build failed
    PartitionError        a partition breaks a promise
    ErrorBudgetError      more rows failed than the user allowed
    TrainingError         a training can't go on
    RunStoppedError       a run ended before all was done; --resume completes it
    IndexUnavailableError no replica of a shard of the index answers

A caller's programming mistake is a ``ValueError`` or ``TypeError`` instead; a bad row is the column ``problem``.
"""


class GeoRayError(Exception):
    """A state of the world that we can name; the message says what to do about it."""

    exit_code = 2  # of a command that ends with it


class InputError(GeoRayError):
    """What the user gave can't be used."""


class OutputError(GeoRayError):
    """The output can't be written, or holds another run's results."""


class BundleError(GeoRayError):
    """A bundle is missing, damaged or of another version."""


class MissingDataError(GeoRayError):
    """A package that holds data isn't installed."""


class BuildError(GeoRayError):
    """A task of a build failed; the message names it."""

    exit_code = 1


class PartitionError(GeoRayError):
    """A partition breaks a promise; the findings are printed."""

    exit_code = 1


class ErrorBudgetError(GeoRayError):
    """More rows failed than the user allowed; all answers are written."""

    exit_code = 1


class TrainingError(GeoRayError):
    """A training can't go on; the message names the images it ended with, or what it lost."""

    exit_code = 1


class RunStoppedError(GeoRayError):
    """A run ended before all was done; what it has done stays, and ``--resume`` completes it."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again


class IndexUnavailableError(GeoRayError):
    """No replica of a shard of the index answers; the message names the shard."""

    exit_code = 1


def last_line(error: Exception) -> str:
    """What went wrong, without Ray's account of where that comes before it; the error's kind where it says nothing."""
    return next(reversed(str(error).strip().splitlines()), type(error).__name__)
