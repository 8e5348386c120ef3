"""Programs of this project's own that run as nodes of a swarm, each a process."""
