"""A run that an issue on GitHub asks for, from its form to its report."""
