"""What is delivered, how often it is tried, and when it is given up."""
