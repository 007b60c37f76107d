"""T_c and E_f of a composition, with gradients: the networks, their weights, how they are trained and judged."""
