"""The fuzzing of what reads hostile mail: `scripts/fuzz`, and docs/fuzzing.md for what it looks for."""
