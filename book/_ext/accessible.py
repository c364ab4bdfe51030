"""Sphinx extension: small repairs of what others' code writes into pages, for those who hear a page rather than see it.

pandas marks empty corners of a table as headers, and docutils gives the entries of a bibliography roles that ARIA has
withdrawn: a screen reader would announce both. ``tests/book`` holds the pages against axe-core.
"""

REPAIRS = {
    "<th></th>": "<td></td>",
    '<div role="list" class="citation-list">': '<div class="citation-list">',
    ' role="doc-biblioentry"': "",
}


def repair(app, pagename, templatename, context, doctree):
    """Replace the faulty markup in a page's body."""
    for wrong, right in REPAIRS.items():
        if "body" in context:
            context["body"] = context["body"].replace(wrong, right)


def setup(app):
    """Register with Sphinx."""
    app.connect("html-page-context", repair)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
