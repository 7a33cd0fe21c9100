"""The fixtures as a user's test has them, and pytest runs of their own."""

pytest_plugins = ["pytester"]
