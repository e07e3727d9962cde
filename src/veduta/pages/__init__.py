"""Everything that people look at: HTML pages, their templates, charts and contact sheets."""
