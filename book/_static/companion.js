// Excerpts of what was found are fetched from their pages, which browsers refuse to a page that was opened from a folder.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}
