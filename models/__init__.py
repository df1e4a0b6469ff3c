"""What is modelled: specifications, records, errors and pure mathematics. No clock, network, database or Prefect."""
