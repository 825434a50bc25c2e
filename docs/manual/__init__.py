"""How the manual is made of the pages of the repository, the docstrings, the C headers, the tables of formulas and the command line."""
