"""How the columns of a table become features of a network: numbers, categories, dates, and what its outputs mean."""
