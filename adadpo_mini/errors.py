"""The one exception for everything a user can put right."""


class InputError(ValueError):
    """Bad input, told in one sentence: where, what is wrong, what to do.

    The command line prints the sentence and exits with code 2; the page shows it.
    """
