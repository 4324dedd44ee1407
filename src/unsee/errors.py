"""Errors a user can cause. The command line prints them as one sentence and exits with 2."""


class UserError(Exception):
    """One clear sentence that names the file, field and value, and says the mend."""


class Problems(UserError):
    """Several problems found in one pass over an input, reported together, one per line."""

    def __init__(self, headline: str, problems: list[str]):
        self.problems = problems
        super().__init__("\n".join([headline, *(f"  {problem}" for problem in problems)]))


class TrainingFailure(Exception):
    """A loss or a score is no finite number: a failure inside (exit 1), nothing was published."""
