"""Numbers as tables, documents and figures."""
