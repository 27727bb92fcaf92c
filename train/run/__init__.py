"""From what is asked for to stored runs: plans, processes, the dry run, late fusion."""
