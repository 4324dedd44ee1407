"""Methods compared over seeds: means, paired differences, ranking, and the page that shows them beside the paper's."""
