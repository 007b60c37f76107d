"""What a composition is: elements, formulas, oxidation states, neutrality, the periodic-table map."""
