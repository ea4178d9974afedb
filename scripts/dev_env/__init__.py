"""Makes and describes the development environment: locks, installers, stamps. Standard library only."""
