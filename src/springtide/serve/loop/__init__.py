"""The circle of a model: trained, judged, promoted, served, corrected by its users, trained further. Pure; no torch.

Imports what is below `serve`, and the standard library. Begin with `circle` (what is kept) and `advance` (what becomes
of it when something happened, and what is due); `expansion` makes the pool jobs of a loop, `holdout` says which records
are never trained on, `drift` watches inputs and answers, `telling` says all of it in sentences. `pool/circle.py`
carries it out.
"""
