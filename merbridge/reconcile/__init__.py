"""From what is known to what should be in the maps, and the difference made so."""
