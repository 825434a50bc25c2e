"""All that loops over an engine: epochs, and what fit does around them."""
