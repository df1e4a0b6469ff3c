"""Planning: what a stack will do and cost that was not measured at this point, and how sure that is."""
