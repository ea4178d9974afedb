"""What the ports of the domain are made of, technology first."""
