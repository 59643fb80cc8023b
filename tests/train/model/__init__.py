"""The model check of the step protocol and of membership: every interleaving, on the very functions that run.

`world` is what there is to see, `working` and `leading` are what processes do, `explore` walks it all, `mutations` are
deliberate mistakes that must be found. Read `world` first.
"""
