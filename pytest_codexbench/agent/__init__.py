"""The program beside each node: it starts the node, uses it and watches it."""
