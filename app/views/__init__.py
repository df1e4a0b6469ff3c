"""The explorer's pages; each reads the published snapshot and draws."""
