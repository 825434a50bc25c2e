"""What recurrent nodes remember between calls."""
