"""From run folders to pages that people read."""
