"""One function per figure. Each returns a matplotlib Figure whose title states the finding."""
