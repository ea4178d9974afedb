"""What a run does, one phase a file; the state says which comes next, so that a run goes on where it was cut off."""
