"""Pure decisions over the model. Every decision carries its reasons.

`access`  configured access rules → the small form the edge enforces, and why a packet may pass
"""
