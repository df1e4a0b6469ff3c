"""Commands that measure dyno itself; each prints a table. Timing is judged here, never in a test."""
