"""Console: reads every topic as an outsider would, shows it to people, and asks services for what they do."""
