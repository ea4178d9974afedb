"""What every service of PAGI Mesh stands on. It knows no product word and no product message."""

import os

# gRPC looks when it is imported. What a service starts beside itself (the look-up of prices, a PDF reader) becomes
# another program at once: gRPC need not prepare for the fork, and complain in the log where it cannot.
os.putenv("GRPC_ENABLE_FORK_SUPPORT", "0")
