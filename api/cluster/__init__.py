"""The Ray cluster: its head, its jobs, what it can hold."""
