"""The engines that carry out the tasks of a plan: this process, or workers on the machines of a Ray cluster."""
