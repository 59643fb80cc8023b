"""The simulator: the real planner, and its rivals, on traces of real clusters in virtual time.

Imports `core` and `spec`, never torch. Begin with `engine` (the loop), `trace` (what is played), `world` (how fast
things run there) and `policies` (who plans).
"""
