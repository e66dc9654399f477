"""The order of the tutorials in the gallery, from the least that is needed to the most."""

ORDER = ("losses_only", "own_model", "audit_table", "audit_images", "train_text")


def place(filename: str) -> int:
    """Return the place of a script among the tutorials, of others the last one."""
    name = filename.removesuffix(".py")
    return ORDER.index(name) if name in ORDER else len(ORDER)
