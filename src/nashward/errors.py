"""The errors that nashward raises on purpose: what was given, what was expected, what to do."""


class NashwardError(ValueError):
    """Something that was given cannot be used, and the message says what to do.

    The command line shows it, and its subclasses, as one line with the exit code 2. Any other exception but those of
    the machine (``OSError``, ``MemoryError``) is a defect of nashward and ends in a traceback.

    Example:
        >>> from nashward import games
        >>> try: games.PreferenceGame([[0.5, 0.7], [0.7, 0.5]])
        ... except NashwardError as error: print(type(error).__name__)
        NashwardError
    """


class CorruptFileError(NashwardError):
    """A file of a run is not what was written there."""


class UnsupportedModelError(NashwardError):
    """A network lacks the structure that an operation requires."""


class DivergedError(NashwardError):
    """The loss of a fit is not finite any more."""


class LostProcessError(NashwardError):
    """One of several processes has died or hangs."""


class OtherProcessError(NashwardError):
    """One of several processes has failed and says why: the others stop without another word."""


class MissingPackageError(NashwardError, ImportError):
    """A package of an extra is not installed."""


class WrongKindError(NashwardError, TypeError):
    """Code of the user's gives an object of another kind than the one that is expected."""


class RefusedPromptError(NashwardError):
    """A chat template refuses the turns of a prompt, or leaves out what they say.

    Attributes:
        reason: why, as prompts that are dropped are counted by it.
    """

    def __init__(self, message: str, reason: str = "refused by the chat template") -> None:
        super().__init__(message)
        self.reason = reason


class EndpointError(NashwardError):
    """A server does not answer, or answers with an error that no repetition removes.

    Attributes:
        status: of HTTP; None where there is none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class BudgetError(NashwardError):
    """The next call of a server would go beyond the budget."""
