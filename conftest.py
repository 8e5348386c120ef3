"""What this folder's own runs need."""

pytest_plugins = ["pytester"]
