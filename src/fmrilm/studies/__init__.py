"""The known studies: their names, phenotypes and published tables."""
