"""From a composition to crystals: prototypes, what stands on their sites, ordered cells, relaxation, energies."""
