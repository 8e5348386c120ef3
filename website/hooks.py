"""What mkdocs calls while it builds the site."""

from __future__ import annotations

# mkdocs puts this folder on the path while it loads this file
import pages
import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

HOME = "index.md"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are made from files outside of docs/."""
    for uri, text in pages.others():
        level = InclusionLevel.NOT_IN_NAV if uri.startswith("source/") else InclusionLevel.UNDEFINED
        files.append(File.generated(config, uri, content=text, inclusion=level))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in what is made from the plugin, and turn links between files into links between pages."""
    uri = page.file.src_uri
    if uri.startswith("source/"):
        return markdown
    if uri == HOME:
        page.meta["hide"] = ["toc"]
    path = pages.file_of(uri)
    try:
        return reference.fill(pages.for_site(markdown, path))
    except ValueError as error:
        raise PluginError(f"{path}: {error}") from error
