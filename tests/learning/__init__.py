"""Numbers that learn, against outside oracles: scikit-learn, statsmodels, exact fractions."""
