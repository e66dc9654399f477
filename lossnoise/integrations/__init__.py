"""Recorders of every sample's loss for the training loops that people already have.

`lossnoise.integrations.lightning`, `lossnoise.integrations.huggingface` and
`lossnoise.integrations.skorch` each need the extra of the same name, and load it on use.
"""
