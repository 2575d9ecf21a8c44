"""The gRPC services of glimpse.v1: each method checks its request, asks the domain, and makes its answer."""
