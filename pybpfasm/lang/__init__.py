"""What the author of a program imports: types, maps, contexts, helpers, decorators."""
