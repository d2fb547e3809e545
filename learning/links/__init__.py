"""From scores to residuals, for each task: what two parties compute from their own scores as integers."""
