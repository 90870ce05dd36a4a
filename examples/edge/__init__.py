"""A policy enforcement point at the edge: decides with `policies` and a signed bundle, without asking each time."""
