"""Standard errors and p-values, from the curvature at the optimum."""
