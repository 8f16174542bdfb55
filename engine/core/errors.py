"""What ends a study early, in the user's words."""


class Failed(Exception):
    """A study cannot finish; the message gives the reason and the remedy in the user's words."""
