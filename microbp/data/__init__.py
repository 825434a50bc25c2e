"""Arrays and rows: from anything that holds numbers to what a backend reads."""
