"""Where the rooms meet: prepare, train, evaluate, report. The command line and the workflow's activities call the same functions."""
