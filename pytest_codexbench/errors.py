"""What can go wrong, each kind with a name of its own."""


class BenchError(Exception):
    """Anything this suite reports as wrong."""


class WrongInput(BenchError):
    """An option, a matrix file or a values file says what cannot be: names the key, the value, what would be right."""


class CannotRun(BenchError):
    """This machine cannot hold the cell: the reason with its figure, and the way out. The cell is skipped."""


class NotReady(BenchError):
    """A node or cluster did not come up in time: infrastructure, so an error in set-up."""


class BadTransfer(BenchError):
    """A transfer ended in another way than with every byte, checked: a result, so a failure."""


class AgentError(BenchError):
    """An agent refused a request or could not be reached."""


class Unreachable(AgentError):
    """An agent could not be reached, or its answer broke off: what it was asked for may be done all the same."""
