"""A stand-in for the competition's package of this name, over real gRPC, and stricter than the competition's own."""
