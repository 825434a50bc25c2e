"""What recurrent nodes remember between calls, and graphs for pieces of sequences."""
