"""The compiled extension, the choice of backend, and what checks and writes settings as text."""
