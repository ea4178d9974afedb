"""What every service of PAGI Mesh stands on. It knows no product word and no product message."""
