"""Methods compared over seeds: means, paired differences, ranking, and the page that shows them beside the paper's."""

PAGES = {"compare": "report.html", "sweep": "sweep.html", "frontier": "frontier.html", "search": "search.html"}
"""The page of each report (`reports`)."""
