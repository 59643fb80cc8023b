"""Where replicas run: processes of this machine (`local`), or nowhere, in virtual time (`simulated`).

Imports `spec` and `train` (a training job is one run of it). No rule of sharing is here: the pool says what is to run
where. Begin with `engine` (the four verbs and what is seen), then `local/`.
"""
