"""`nerfkit info`: what is installed here and which backend each op would use."""


def info(json: bool = False) -> None:
    """Describe this installation.

    Args:
        json: print JSON instead of a table.
    """
    import json as encoder

    from nerfkit import info as installation

    facts = installation.gather()
    if json:
        print(encoder.dumps(facts, indent=2))
    else:
        installation.print_table(facts)
