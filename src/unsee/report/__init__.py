"""The report of a run: its numbers (`summary`), what they mean (`verdict`), and the page that shows both (`page`)."""
