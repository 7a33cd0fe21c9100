"""The mesh's programs against twins of them in C: how much code, how long the paths, how much for the verifier."""
