"""What follows from the journal behind a run's answer: notifications, history, lessons."""
