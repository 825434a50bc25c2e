"""One row forward and backward through a network, number by number: `bp.explain`."""
