"""The discrete control space: packing by column, metric and Riesz map, extension, distances."""
